//! Up to which event time one side of a stream-stream join may be forgotten (`spec/04` section 3).

use crate::planted::planted;

/// When buffered rows of one side leave.
#[derive(Clone, Debug, PartialEq)]
pub enum Bound {
    /// The n-th join key is event time (or a window of it): keys up to the watermark leave, on both sides.
    Key(usize),
    /// Rows leave whose event time, in this column of the side, the other side can match no more.
    Rows {
        /// The side's event-time column, by index.
        column: usize,
        /// Every condition `other side's event time + offset < this side` (or `<=`).
        ranges: Vec<Range>,
    },
}

/// One condition that holds a side's rows above the other side's event time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// Microseconds that are added to the other side's event time; Spark computes with doubles.
    pub offset_us: f64,
    /// Whether equality is allowed (`<=`): then the millisecond itself can still match.
    pub inclusive: bool,
}

impl Bound {
    /// The state watermark: rows with event time `<=` this leave when the operator's watermark is `watermark_ms`.
    /// In milliseconds, cut toward zero, as Spark does.
    pub fn state_watermark_ms(&self, watermark_ms: i64) -> i64 {
        let of_range = |range: &Range| {
            let micros = watermark_ms as f64 * 1000.0 + range.offset_us;
            let inclusive = range.inclusive && !planted("join-forgets-what-can-still-match");
            ((micros / 1000.0) as i64).saturating_sub(i64::from(inclusive))
        };
        match self {
            Self::Key(_) => watermark_ms,
            Self::Rows { ranges, .. } => ranges.iter().map(of_range).min().unwrap_or(i64::MIN),
        }
    }
}

/// The bounds of both sides; `None` where a side is never forgotten.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Bounds {
    /// Of the left side.
    pub left: Option<Bound>,
    /// Of the right side.
    pub right: Option<Bound>,
}

impl Bounds {
    /// The watermark of what comes out of the join: the least of its input watermark and the state watermarks.
    pub fn output_watermark_ms(&self, input_ms: i64) -> i64 {
        let sides = [&self.left, &self.right].into_iter().flatten().map(|bound| bound.state_watermark_ms(input_ms));
        sides.fold(input_ms, i64::min)
    }

    /// Whether the watermark lets anything go.
    pub fn forget(&self) -> bool {
        self.left.is_some() || self.right.is_some()
    }
}
