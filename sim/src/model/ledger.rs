//! Where input rows end: exactly one bucket for every row that was ever read.

/// Where a row ended. A row that went several ways (sliding windows, a self join) is in the last of the
/// buckets that one of its ways reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    /// Nowhere: the model lost it, which is a bug of the model.
    Lost,
    /// Rejected by WHERE, HAVING, a window without an instant, LIMIT or an anti join.
    Filtered,
    /// A join had no partner for it and the join type gives nothing for that.
    Unmatched,
    /// A repetition of a row that deduplication has seen.
    Duplicate,
    /// At or before the late-events watermark of an operator.
    Late,
    /// In the state of an operator, and in no row of the output yet.
    InState,
    /// Part of at least one row of the output.
    Emitted,
}

/// All buckets, the weakest first.
pub const BUCKETS: [Bucket; 7] = [
    Bucket::Lost,
    Bucket::Filtered,
    Bucket::Unmatched,
    Bucket::Duplicate,
    Bucket::Late,
    Bucket::InState,
    Bucket::Emitted,
];

/// The bucket of every input row, by the order in which the rows were read.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    ends: Vec<Bucket>,
}

impl Ledger {
    /// Opens an account for one more row: its id.
    pub fn open(&mut self) -> u32 {
        self.ends.push(Bucket::Lost);
        (self.ends.len() - 1) as u32
    }

    /// Notes that one way of these rows ended in a bucket.
    pub fn note(&mut self, rows: &[u32], bucket: Bucket) {
        for row in rows {
            let end = &mut self.ends[*row as usize];
            *end = (*end).max(bucket);
        }
    }

    /// The bucket of every row, in order of reading.
    pub fn ends(&self) -> &[Bucket] {
        &self.ends
    }

    /// Rows in one bucket.
    pub fn count(&self, bucket: Bucket) -> usize {
        self.ends.iter().filter(|end| **end == bucket).count()
    }

    /// Whether every row that was read has an end.
    pub fn balances(&self) -> bool {
        self.count(Bucket::Lost) == 0
    }
}
