//! Numbers in texts: decimals, and the floats that Java reads.

/// A decimal text (`-12.5`, `1e3`) as the unscaled value of `DECIMAL(precision, scale)`, halves rounded away from zero;
/// `None` when it is no number or does not fit.
pub(crate) fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (is_negative, body) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match body.find(['e', 'E']) {
        Some(at) => (&body[..at], body[at + 1..].parse::<i64>().ok()?),
        None => (body, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let has_digits = !(whole.is_empty() && fraction.is_empty());
    if !has_digits || !whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    // The value is all digits times 10^shift, in units of the scale.
    let shift = exponent.checked_sub(fraction.len() as i64)?.checked_add(i64::from(scale))?;
    let digits_count = (whole.len() + fraction.len()) as i64;
    let kept = if shift < 0 { (digits_count + shift).max(-1) } else { digits_count };
    let mut value: i128 = 0;
    for (at, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        if at as i64 >= kept {
            if at as i64 == kept && byte >= b'5' {
                value += 1;
            }
            break;
        }
        value = value.checked_mul(10)?.checked_add(i128::from(byte - b'0'))?;
    }
    if value == 0 {
        return Some(0);
    }
    if shift > 0 {
        value = value.checked_mul(10_i128.checked_pow(u32::try_from(shift).ok()?)?)?;
    }
    if value >= 10_i128.pow(u32::from(precision)) {
        return None;
    }
    Some(if is_negative { -value } else { value })
}

/// A float as `java.lang.Double.parseDouble` reads it: blanks around it, `NaN`, `Infinity`, a `d` or `f` at the end,
/// hexadecimal floats.
pub(crate) fn java_double(text: &str) -> Option<f64> {
    match java_float_text(text)? {
        FloatText::Value(value) => Some(value),
        FloatText::Decimal(digits) => digits.parse().ok(),
    }
}

/// The same with 32 bits (not by way of 64: rounding twice can differ in the last bit).
pub(crate) fn java_float(text: &str) -> Option<f32> {
    match java_float_text(text)? {
        FloatText::Value(value) => Some(value as f32),
        FloatText::Decimal(digits) => digits.parse().ok(),
    }
}

enum FloatText<'a> {
    Value(f64),
    /// Digits that Rust reads as Java does.
    Decimal(&'a str),
}

fn java_float_text(text: &str) -> Option<FloatText<'_>> {
    let text = text.trim_matches(|c: char| c <= ' ');
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let signed = |value: f64| FloatText::Value(if text.starts_with('-') { -value } else { value });
    match unsigned {
        "NaN" => return Some(FloatText::Value(f64::NAN)),
        "Infinity" => return Some(signed(f64::INFINITY)),
        _ => {}
    }
    if let Some(hex) = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X")) {
        return hex_double(hex).map(signed);
    }
    // Rust takes more words than Java (`inf`, `nan`).
    let digits = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    is_plain.then_some(FloatText::Decimal(digits))
}

/// `h.hhp[+-]d` after the `0x`.
fn hex_double(text: &str) -> Option<f64> {
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).filter(|_| text.contains(['p', 'P'])).unwrap_or(text);
    let (mantissa, exponent) = text.split_once(['p', 'P'])?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{whole}{fraction}");
    // More than 13 digits would need rounding by hand; nobody writes them.
    if digits.is_empty() || digits.len() > 13 {
        return None;
    }
    let value = u64::from_str_radix(&digits, 16).ok()? as f64;
    let exponent = exponent.parse::<i32>().ok()?.checked_sub(4 * fraction.len() as i32)?;
    Some(value * 2_f64.powi(exponent.clamp(-2000, 2000)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_round_and_fit_or_not() {
        for (text, precision, scale, expected) in [
            ("1", 5, 2, Some(100)),
            ("-1.5", 10, 0, Some(-2)),
            ("1.005", 5, 2, Some(101)),
            ("999.994", 5, 2, Some(99_999)),
            ("999.995", 5, 2, None),
            ("1e2", 5, 2, Some(10_000)),
            ("1e-2", 5, 2, Some(1)),
            ("4e-3", 5, 2, Some(0)),
            ("5e-3", 5, 2, Some(1)),
            ("5e-4", 5, 2, Some(0)),
            ("0e999999", 5, 2, Some(0)),
            ("1e99999999999999999999", 5, 2, None),
            ("1e9223372036854775807", 5, 2, None),
            ("1e-9223372036854775807", 5, 2, Some(0)),
            (".5", 5, 2, Some(50)),
            ("5.", 5, 2, Some(500)),
            (".", 5, 2, None),
            ("", 5, 2, None),
            ("1x", 5, 2, None),
            ("99999999999999999999999999999999999999", 38, 0, Some(10_i128.pow(38) - 1)),
            ("199999999999999999999999999999999999999", 38, 0, None),
            ("0.00000000000000000000000000000000000000000000000000000001", 38, 18, Some(0)),
        ] {
            assert_eq!(decimal(text, precision, scale), expected, "{text}");
        }
    }

    #[test]
    fn floats_are_java_s() {
        for (text, expected) in [
            (" 1.5 ", Some(1.5)),
            ("1d", Some(1.0)),
            ("-.5f", Some(-0.5)),
            ("0x1p3", Some(8.0)),
            ("-0x1.8p1", Some(-3.0)),
            ("+Infinity", Some(f64::INFINITY)),
            ("1e400", Some(f64::INFINITY)),
            ("inf", None),
            ("nan", None),
            ("1_0", None),
            ("+-1", None),
            ("", None),
        ] {
            assert_eq!(java_double(text), expected, "{text}");
        }
    }
}
