//! Numbers as Java writes them: `1.0E10`, `NaN`, `1E-7`.

use std::io::Write;

/// How a decimal is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DecimalText {
    /// All digits: `0.0000001` (Java's `toPlainString`; console, partition values).
    Plain,
    /// With an exponent when the number is small: `1E-7` (Java's `toString`; CSV and JSON files).
    Scientific,
}

/// Appends a `double` as `Double.toString` of Java 19 and later does: the shortest digits that read back as the same
/// value. (Earlier Javas write a few values longer, `1.9999999999999998E23` for `2.0E23`; both read back the same.)
pub(crate) fn write_f64(value: f64, out: &mut Vec<u8>) {
    if let Some(text) = not_finite(value) {
        return out.extend_from_slice(text.as_bytes());
    }
    let text = format!("{:e}", value.abs());
    // Java asks for two digits at least and takes the closest pair: 4.9E-324, where the shortest is 5e-324.
    let text =
        if text.find('e') == Some(1) { two_digits(text, |t| t.parse() == Ok(value.abs()), value.abs()) } else { text };
    write_java(value.is_sign_negative(), &text, out);
}

/// Appends a `float` as `Float.toString` does; see [`write_f64`].
pub(crate) fn write_f32(value: f32, out: &mut Vec<u8>) {
    if let Some(text) = not_finite(f64::from(value)) {
        return out.extend_from_slice(text.as_bytes());
    }
    let text = format!("{:e}", value.abs());
    let text = if text.find('e') == Some(1) {
        two_digits(text, |t| t.parse() == Ok(value.abs()), f64::from(value.abs()))
    } else {
        text
    };
    write_java(value.is_sign_negative(), &text, out);
}

fn not_finite(value: f64) -> Option<&'static str> {
    match value {
        v if v.is_nan() => Some("NaN"),
        f64::INFINITY => Some("Infinity"),
        f64::NEG_INFINITY => Some("-Infinity"),
        _ => None,
    }
}

fn two_digits(one_digit: String, is_same: impl Fn(&str) -> bool, value: f64) -> String {
    let two = format!("{value:.1e}");
    if is_same(&two) { two } else { one_digit }
}

/// Lays out Rust's `d.ddde-x` as Java: plain between 10^-3 and 10^7, with an exponent otherwise.
fn write_java(negative: bool, scientific: &str, out: &mut Vec<u8>) {
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let mut digits: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    if negative {
        out.push(b'-');
    }
    let (whole_len, shown_exponent) = match exponent {
        _ if digits == b"0" => (1, None),
        -3..=6 => (exponent + 1, None),
        _ => (1, Some(exponent)),
    };
    if whole_len <= 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', whole_len.unsigned_abs() as usize));
        out.extend_from_slice(&digits);
    } else {
        let whole_len = whole_len as usize;
        for place in 0..whole_len {
            out.push(digits.get(place).copied().unwrap_or(b'0'));
        }
        out.push(b'.');
        match digits.get(whole_len..) {
            Some(rest) if !rest.is_empty() => out.extend_from_slice(rest),
            _ => out.push(b'0'),
        }
    }
    if let Some(exponent) = shown_exponent {
        let _ = write!(out, "E{exponent}"); // a Vec takes every write
    }
}

/// Appends a decimal given as the text of its unscaled value (`-1234`) and its scale.
pub(crate) fn write_decimal(unscaled: &str, scale: i8, style: DecimalText, out: &mut Vec<u8>) {
    let (sign, digits) = match unscaled.strip_prefix('-') {
        Some(digits) => ("-", digits.as_bytes()),
        None => ("", unscaled.as_bytes()),
    };
    out.extend_from_slice(sign.as_bytes());
    let adjusted = digits.len() as i32 - 1 - i32::from(scale);
    if style == DecimalText::Scientific && scale > 0 && adjusted < -6 {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        let _ = write!(out, "E{adjusted}"); // a Vec takes every write
    } else if scale <= 0 {
        out.extend_from_slice(digits);
        if digits != b"0" {
            out.extend(std::iter::repeat_n(b'0', usize::from(scale.unsigned_abs())));
        }
    } else {
        let scale = scale as usize;
        if digits.len() > scale {
            out.extend_from_slice(&digits[..digits.len() - scale]);
            out.push(b'.');
            out.extend_from_slice(&digits[digits.len() - scale..]);
        } else {
            out.extend_from_slice(b"0.");
            out.extend(std::iter::repeat_n(b'0', scale - digits.len()));
            out.extend_from_slice(digits);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn doubles_look_as_in_java() {
        let facts: &[(f64, &str)] = &[
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (100.0, "100.0"),
            (1e7, "1.0E7"),
            (9999999.999, "9999999.999"),
            (12345678.9, "1.23456789E7"),
            (0.001, "0.001"),
            (0.002, "0.002"),
            (0.0001, "1.0E-4"),
            (1.23456789e-5, "1.23456789E-5"),
            (1e10, "1.0E10"),
            (4.9e-324, "4.9E-324"),
            (f64::MAX, "1.7976931348623157E308"),
            (2.2250738585072014e-308, "2.2250738585072014E-308"),
            (9007199254740993.0, "9.007199254740992E15"),
            (2e23, "2.0E23"),
            (f64::NAN, "NaN"),
            (f64::NEG_INFINITY, "-Infinity"),
        ];
        for (value, expected) in facts {
            assert_eq!(text(|out| write_f64(*value, out)), *expected);
        }
    }

    #[test]
    fn floats_look_as_in_java() {
        let facts: &[(f32, &str)] = &[
            (0.1, "0.1"),
            (1e10, "1.0E10"),
            (16777216.0, "1.6777216E7"),
            (f32::MAX, "3.4028235E38"),
            (1e-45, "1.4E-45"),
        ];
        for (value, expected) in facts {
            assert_eq!(text(|out| write_f32(*value, out)), *expected);
        }
    }

    #[test]
    fn decimals_keep_their_scale() {
        let facts: &[(&str, i8, &str, &str)] = &[
            ("1234500", 3, "1234.500", "1234.500"),
            ("0", 18, "0.000000000000000000", "0E-18"),
            ("-5", 2, "-0.05", "-0.05"),
            ("12345678901234567890", 0, "12345678901234567890", "12345678901234567890"),
            ("1", 7, "0.0000001", "1E-7"),
            ("-123", 20, "-0.00000000000000000123", "-1.23E-18"),
            ("12", -2, "1200", "1200"),
        ];
        for (unscaled, scale, plain, scientific) in facts {
            assert_eq!(text(|out| write_decimal(unscaled, *scale, DecimalText::Plain, out)), *plain);
            assert_eq!(text(|out| write_decimal(unscaled, *scale, DecimalText::Scientific, out)), *scientific);
        }
    }
}
