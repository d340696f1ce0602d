//! The join of two streams: Spark's worked example, and random batches against a join that is slow and obvious.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, TimestampMicrosecondArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Int64Type, Schema, TimeUnit};
use arrow::datatypes::{SchemaRef, TimestampMicrosecondType};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{binary, col, lit};
use object_store::memory::InMemory;
use object_store::path::Path;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::bound::{Bound, Range};
use super::buffer::Buffer;
use super::run::PartitionRun;
use super::{JoinSide, PairFilter, StreamJoinParts};
use crate::clock::SystemClock;
use crate::operators::batch::OperatorWatermarks;
use crate::operators::stateful::OperatorNumbers;
use crate::state::{HotStateStore, SnapshotPolicy, StateStore, StoreIdentity};
use crate::storage::Folder;

/// A row: key, event time in seconds, a number of its own.
type Row = (Option<i64>, Option<i64>, i64);
/// A joined row; `None` for a side that is padded, or that a semi join does not have.
type Out = (Option<Row>, Option<Row>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Inner,
    Left,
    Right,
    Full,
    Semi,
}

fn fields(prefix: &str) -> Vec<FieldRef> {
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    [("k", DataType::Float64), ("t", time), ("n", DataType::Int64), ("s", DataType::Int64)]
        .into_iter()
        .map(|(name, data_type)| Arc::new(Field::new(format!("{prefix}{name}"), data_type, true)))
        .collect()
}

/// The key is a float: 0.0 arrives as -0.0 on the right side, and they must match.
fn batch(prefix: &str, rows: &[Row]) -> RecordBatch {
    let zero = if prefix == "r" { -0.0 } else { 0.0 };
    let key = |k: i64| if k == 0 { zero } else { k as f64 };
    let keys: Float64Array = rows.iter().map(|(k, _, _)| k.map(key)).collect();
    let times: TimestampMicrosecondArray = rows.iter().map(|(_, t, _)| t.map(|t| t * 1_000_000)).collect();
    let numbers = Int64Array::from_iter_values(rows.iter().map(|(_, _, n)| *n));
    let seconds: Int64Array = rows.iter().map(|(_, t, _)| *t).collect();
    let columns: Vec<ArrayRef> =
        vec![Arc::new(keys), Arc::new(times.with_timezone("UTC")), Arc::new(numbers), Arc::new(seconds)];
    RecordBatch::try_new(Arc::new(Schema::new(fields(prefix))), columns).unwrap()
}

fn side(name: &'static str, prefix: &str, outer: bool) -> JoinSide {
    let columns = fields(prefix);
    JoinSide {
        name,
        key_fields: vec![Arc::clone(&columns[0])],
        columns,
        keys: vec![0],
        event_time: Some(1),
        filter: None,
        bound: Some(Bound::Rows { column: 1, ranges: vec![Range { offset_us: -5e6, inclusive: true }] }),
        outer,
    }
}

/// `ON lk = rk AND lt BETWEEN rt - 5 AND rt + 5`.
fn parts(kind: Kind) -> StreamJoinParts {
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![Field::new("ls", DataType::Int64, true), Field::new("rs", DataType::Int64, true)]));
    let difference = |a: &str, b: &str| {
        let minus = binary(col(a, &schema).unwrap(), Operator::Minus, col(b, &schema).unwrap(), &schema).unwrap();
        binary(minus, Operator::LtEq, lit(5i64), &schema).unwrap()
    };
    let expr = binary(difference("ls", "rs"), Operator::And, difference("rs", "ls"), &schema).unwrap();
    StreamJoinParts {
        left: side("left", "l", matches!(kind, Kind::Left | Kind::Full)),
        right: side("right", "r", matches!(kind, Kind::Right | Kind::Full)),
        semi: kind == Kind::Semi,
        filter: Some(PairFilter { expr, columns: vec![(true, 3), (false, 3)], schema }),
    }
}

/// A join with its two stores.
struct Harness {
    parts: StreamJoinParts,
    schema: SchemaRef,
    stores: Vec<HotStateStore>,
    batch_id: u64,
}

impl Harness {
    async fn new(parts: StreamJoinParts) -> Self {
        let mut all = fields("l");
        if !parts.semi {
            all.extend(fields("r"));
        }
        let mut stores = vec![];
        for spec in parts.store_specs().unwrap() {
            let identity = StoreIdentity { operator_id: 0, partition: 0, store_name: spec.name.clone() };
            let folder =
                Folder { store: Arc::new(InMemory::new()), path: Path::from("state"), uri_root: "memory://".into() };
            let folder = identity.folder(&folder);
            let mut store = HotStateStore::new(folder, &identity, &spec, SnapshotPolicy::default()).unwrap();
            store.begin(0).await.unwrap();
            stores.push(store);
        }
        Self { parts, schema: Arc::new(Schema::new(all)), stores, batch_id: 0 }
    }

    /// Runs a batch: what comes out, sorted, and what was done to the state.
    async fn run(
        &mut self,
        left: &[&[Row]],
        right: &[&[Row]],
        late_s: i64,
        evict_s: i64,
    ) -> (Vec<Out>, OperatorNumbers) {
        let [left_store, right_store] = self.stores.as_mut_slice() else { panic!("two stores") };
        let mut run = PartitionRun {
            parts: &self.parts,
            left: Buffer::new(&self.parts.left, left_store, self.batch_id),
            right: Buffer::new(&self.parts.right, right_store, self.batch_id),
            watermarks: OperatorWatermarks { late_ms: late_s * 1000, evict_ms: evict_s * 1000 },
            schema: &self.schema,
            clock: &SystemClock::default(),
            numbers: OperatorNumbers::default(),
            out: vec![],
        };
        let chunks = |prefix: &str, chunks: &[&[Row]]| chunks.iter().map(|rows| batch(prefix, rows)).collect();
        run.run(chunks("l", left), chunks("r", right)).unwrap();
        let (numbers, mut out) = (run.numbers, run.out.iter().flat_map(rows_of).collect::<Vec<_>>());
        out.sort_unstable();
        for store in &mut self.stores {
            store.commit().await.unwrap();
        }
        self.batch_id += 1;
        (out, numbers)
    }

    fn buffered(&self) -> u64 {
        self.stores.iter().map(|store| store.rows_total()).sum()
    }
}

fn rows_of(batch: &RecordBatch) -> Vec<Out> {
    let side = |from: usize, row: usize| -> Option<Row> {
        let number = batch.columns().get(from + 2)?.as_primitive::<Int64Type>();
        let key = batch.column(from).as_primitive::<Float64Type>();
        let time = batch.column(from + 1).as_primitive::<TimestampMicrosecondType>();
        number.is_valid(row).then(|| {
            let key = key.is_valid(row).then(|| key.value(row) as i64);
            (key, time.is_valid(row).then(|| time.value(row) / 1_000_000), number.value(row))
        })
    };
    (0..batch.num_rows()).map(|row| (side(0, row), side(4, row))).collect()
}

/// `spec/04` section 3: rows (key, second), watermarks, and what real Spark answered for a left outer join.
#[tokio::test]
async fn the_worked_example() {
    let row = |k: i64, t: i64| (Some(k), Some(t), 10 * t + k);
    let pad = |k, t| (Some(row(k, t)), None);
    let pair = |k, l, r| (Some(row(k, l)), Some(row(k, r)));
    let batches = [
        (vec![(1, 10), (2, 20), (3, 30)], vec![(1, 12), (2, 26), (4, 30)], 0, vec![pair(1, 10, 12)], 6, 0),
        (vec![], vec![], 20, vec![], 4, 2),
        (vec![(5, 40)], vec![(5, 41)], 20, vec![pair(5, 40, 41)], 6, 0),
        (vec![], vec![], 30, vec![pad(2, 20)], 5, 1),
        (vec![(6, 60)], vec![(6, 70)], 30, vec![], 7, 0),
        (vec![], vec![], 50, vec![pad(3, 30)], 2, 5),
        (vec![(7, 100)], vec![(7, 100)], 50, vec![pair(7, 100, 100)], 4, 0),
        (vec![], vec![], 90, vec![pad(6, 60)], 2, 2),
    ];
    let mut left = Harness::new(parts(Kind::Left)).await;
    let mut late_s = 0;
    for (number, (l, r, watermark_s, expected, total, removed)) in batches.into_iter().enumerate() {
        let rows = |rows: Vec<(i64, i64)>| rows.into_iter().map(|(k, t)| row(k, t)).collect::<Vec<_>>();
        let (out, numbers) = left.run(&[&rows(l)], &[&rows(r)], late_s, watermark_s).await;
        assert_eq!((out, left.buffered(), numbers.removed), (expected, total, removed), "batch {number}");
        late_s = watermark_s;
    }
}

/// What the operator does, row by row, with everything in two lists.
#[derive(Default)]
struct Slow {
    left: Vec<(Row, bool)>,
    right: Vec<(Row, bool)>,
}

impl Slow {
    fn run(&mut self, kind: Kind, left: &[Row], right: &[Row], late_s: i64, evict_s: i64) -> Vec<Out> {
        let mut out = vec![];
        let on_time = |row: &&Row| row.1.is_none_or(|t| t > late_s);
        // S = W - 5 s - 1 ms: whole seconds up to W - 6 leave.
        let gone = |row: &Row| row.1.is_some_and(|t| t <= evict_s - 6);
        let fits = |l: &Row, r: &Row| l.0 == r.0 && l.1.zip(r.1).is_some_and(|(l, r)| (l - r).abs() <= 5);
        let keeps = |outer: Kind| kind == outer || kind == Kind::Full;
        for row in left.iter().filter(on_time) {
            let mut matched = false;
            for other in self.right.iter_mut().filter(|(other, _)| fits(row, other)) {
                if kind != Kind::Semi {
                    out.push((Some(*row), Some(other.0)));
                }
                (matched, other.1) = (true, true);
            }
            if kind == Kind::Semi && matched {
                out.push((Some(*row), None));
            } else {
                self.left.push((*row, matched));
            }
        }
        for row in right.iter().filter(on_time) {
            let mut matched = false;
            for other in self.left.iter_mut().filter(|(other, _)| fits(other, row)) {
                out.push((Some(other.0), Some(*row).filter(|_| kind != Kind::Semi)));
                (matched, other.1) = (true, true);
            }
            if kind == Kind::Semi {
                self.left.retain(|(_, matched)| !matched);
            }
            if !gone(row) || (keeps(Kind::Right) && !matched) {
                self.right.push((*row, matched));
            }
        }
        let pad = |rows: &[(Row, bool)], outer: bool| -> Vec<Row> {
            rows.iter().filter(|(row, matched)| outer && gone(row) && !matched).map(|(row, _)| *row).collect()
        };
        out.extend(pad(&self.left, keeps(Kind::Left)).into_iter().map(|row| (Some(row), None)));
        out.extend(pad(&self.right, keeps(Kind::Right)).into_iter().map(|row| (None, Some(row))));
        self.left.retain(|(row, _)| !gone(row));
        self.right.retain(|(row, _)| !gone(row));
        out.sort_unstable();
        out
    }
}

#[tokio::test]
async fn random_batches_are_joined_as_row_by_row() {
    for kind in [Kind::Inner, Kind::Left, Kind::Right, Kind::Full, Kind::Semi] {
        for seed in 0..12 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (mut fast, mut slow) = (Harness::new(parts(kind)).await, Slow::default());
            let (mut late_s, mut evict_s, mut number) = (-100, -100, 0);
            for batch in 0..12 {
                let mut rows = || -> Vec<Row> {
                    (0..random.random_range(0..12))
                        .map(|_| {
                            number += 1;
                            let key = Some(random.random_range(0..4)).filter(|_| random.random_range(0..8) > 0);
                            let time = Some(evict_s.max(0) + random.random_range(-12..20));
                            (key, time.filter(|_| random.random_range(0..10) > 0), number)
                        })
                        .collect()
                };
                let (left, right) = (rows(), rows());
                let cut = |rows: &[Row]| rows.len() / 3;
                let (left_cut, right_cut) = (left.split_at(cut(&left)), right.split_at(cut(&right)));
                let (out, _) = fast.run(&[left_cut.0, left_cut.1], &[right_cut.0, right_cut.1], late_s, evict_s).await;
                let expected = slow.run(kind, &left, &right, late_s, evict_s);
                assert_eq!(out, expected, "{kind:?} seed {seed} batch {batch}");
                let total = slow.left.len() + slow.right.len();
                assert_eq!(fast.buffered(), total as u64, "{kind:?} seed {seed} batch {batch}");
                late_s = evict_s;
                evict_s += random.random_range(0..15);
            }
        }
    }
}

#[tokio::test]
async fn one_row_against_very_many_is_joined_in_pieces() {
    let mut join = Harness::new(parts(Kind::Inner)).await;
    let many: Vec<Row> = (0..20_000).map(|n| (Some(1), Some(100 + n % 3), n)).collect();
    let (out, _) = join.run(&[&many], &[], 0, 0).await;
    assert!(out.is_empty());
    let (out, numbers) = join.run(&[], &[&[(Some(1), Some(106), -1), (Some(2), Some(100), -2)]], 0, 0).await;
    assert_eq!(out.len(), 13_333, "those at 101 and 102 seconds");
    assert_eq!((numbers.updated, join.buffered()), (2, 20_002));
}
