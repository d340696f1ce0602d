//! The stream-stream join: both sides buffered by key, rows matched once, and forgotten by their side's state watermark.

use std::collections::BTreeMap;

use super::exec::{Batch, Row, event_time_column, ids, index_of, is_up_to, joined, padded_left, padded_right};
use super::expr::{Column, ColumnId, Expr};
use super::ledger::Bucket;
use super::plan::{JoinKind, Plan};
use super::refusal::Refusal;
use super::state::State;
use super::value::Value;
use super::watermark::{Forget, JoinBounds, equal_pairs};

/// The buffered rows of both sides, by join key.
#[derive(Debug, Clone, Default)]
pub struct Sides {
    left: BTreeMap<Vec<Value>, Vec<Kept>>,
    right: BTreeMap<Vec<Value>, Vec<Kept>>,
}

/// A buffered row and whether it ever matched.
#[derive(Debug, Clone)]
struct Kept {
    row: Row,
    matched: bool,
}

impl Sides {
    /// Buffered rows of both sides.
    pub fn rows(&self) -> usize {
        self.left.values().chain(self.right.values()).map(Vec::len).sum()
    }

    /// Input rows that wait here and have not matched yet.
    pub fn held(&self) -> Vec<u32> {
        self.left.values().chain(self.right.values()).flatten().flat_map(|k| k.row.from.clone()).collect()
    }
}

/// What of a join does not change from batch to batch.
struct Shape {
    kind: JoinKind,
    /// (left key, right key) expressions.
    keys: Vec<(Expr, Expr)>,
    left_columns: Vec<Column>,
    right_columns: Vec<Column>,
    left_only: Vec<Expr>,
    right_only: Vec<Expr>,
    rest: Vec<Expr>,
    bounds: JoinBounds,
}

impl Shape {
    fn of(left: &Plan, right: &Plan, kind: JoinKind, condition: Option<&Expr>) -> Result<Shape, Refusal> {
        let (left_columns, right_columns) = (left.columns(), right.columns());
        let (l, r) = (left.column_ids(), right.column_ids());
        let keys = equal_pairs(&left_columns, &right_columns, condition);
        if keys.is_empty() {
            return Err(Refusal::failed_text("Stream-stream join without equality predicate is not supported."));
        }
        let bounds = JoinBounds::of(&left_columns, &right_columns, condition);
        let (mut left_only, mut right_only, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for c in condition.map(Expr::conjuncts).unwrap_or_default() {
            let columns = c.columns();
            // Key equality is decided by the look-up in the other side's state, where NULL equals NULL. That
            // shows in a full outer join only: the others have a filter against NULL keys on one side.
            if !equal_pairs(&left_columns, &right_columns, Some(&c)).is_empty() {
                continue;
            }
            if columns.is_subset(&l) {
                left_only.push(c);
            } else if columns.is_subset(&r) {
                right_only.push(c);
            } else {
                rest.push(c);
            }
        }
        Ok(Shape { kind, keys, left_columns, right_columns, left_only, right_only, rest, bounds })
    }
}

impl Batch<'_> {
    /// One batch of a stream-stream join (spec/04 section 3).
    pub fn stream_join(&mut self, plan: &Plan) -> Result<Vec<Row>, Refusal> {
        let Plan::Join { left, right, kind, condition, op } = plan else {
            return Err(Refusal::beyond("a join that is none"));
        };
        let shape = Shape::of(left, right, *kind, condition.as_ref())?;
        let (left_rows, right_rows) = (self.run(left)?, self.run(right)?);
        let State::Join(mut sides) = std::mem::replace(&mut self.states[*op], State::Passed(None)) else {
            return Err(Refusal::beyond("a state of another operator"));
        };
        let mut out = Vec::new();
        let ids: Vec<ColumnId> = ids(left).into_iter().chain(ids(right)).collect();
        for row in self.in_time(left_rows, &shape.left_columns, *op)? {
            self.take_left(row, &shape, &ids, &mut sides, &mut out, self.evict_ms[*op])?;
        }
        for row in self.in_time(right_rows, &shape.right_columns, *op)? {
            self.take_right(row, &shape, &ids, &mut sides, &mut out, self.evict_ms[*op])?;
        }
        self.forget(&shape, &mut sides, &mut out, self.evict_ms[*op])?;
        self.states[*op] = State::Join(sides);
        Ok(out)
    }

    /// Drops the late rows of one side, by that side's own event-time column.
    fn in_time(&mut self, rows: Vec<Row>, columns: &[Column], op: usize) -> Result<Vec<Row>, Refusal> {
        let Some(time) = event_time_column(columns)? else { return Ok(rows) };
        let time = index_of(columns, time.id)?;
        let mut kept = Vec::new();
        for row in rows {
            if is_up_to(&row.values[time], self.late_ms[op]) {
                self.dropped[op] += 1;
                self.note(&row.from, Bucket::Late);
            } else {
                kept.push(row);
            }
        }
        Ok(kept)
    }

    fn take_left(
        &mut self,
        row: Row,
        shape: &Shape,
        ids: &[ColumnId],
        sides: &mut Sides,
        out: &mut Vec<Row>,
        evict_ms: i64,
    ) -> Result<(), Refusal> {
        let left_ids: Vec<ColumnId> = shape.left_columns.iter().map(|c| c.id).collect();
        if !self.all_hold(&shape.left_only, &left_ids, &row.values)? {
            if shape.kind.keeps_left() {
                out.push(padded_right(&row, shape.right_columns.len()));
            } else {
                self.note(&row.from, Bucket::Unmatched);
            }
            return Ok(());
        }
        let key = self.key(shape.keys.iter().map(|(l, _)| l), &left_ids, &row.values)?;
        let mut matched = false;
        for other in sides.right.get_mut(&key).into_iter().flatten() {
            let both = joined(&row, &other.row);
            if self.all_hold(&shape.rest, ids, &both.values)? {
                if shape.kind != JoinKind::LeftSemi {
                    out.push(both);
                    other.matched = true;
                } else if !matched {
                    out.push(Row { values: row.values.clone(), from: both.from });
                    // The first is enough: the other right rows are part of no row of the output.
                    other.matched = true;
                }
                matched = true;
            }
        }
        // A semi-joined row that has its match needs no place in the state, and one that the watermark has passed gets
        // none; all other left rows are stored, even those: this batch's right rows may still match them.
        let is_semi = shape.kind == JoinKind::LeftSemi;
        let gone = is_semi && is_gone(shape.bounds.left.as_ref(), &shape.left_columns, &key, &row, evict_ms)?;
        if gone && !matched {
            self.note(&row.from, Bucket::Unmatched);
        } else if !(is_semi && matched) {
            sides.left.entry(key).or_default().push(Kept { row, matched });
        }
        Ok(())
    }

    fn take_right(
        &mut self,
        row: Row,
        shape: &Shape,
        ids: &[ColumnId],
        sides: &mut Sides,
        out: &mut Vec<Row>,
        evict_ms: i64,
    ) -> Result<(), Refusal> {
        let right_ids: Vec<ColumnId> = shape.right_columns.iter().map(|c| c.id).collect();
        if !self.all_hold(&shape.right_only, &right_ids, &row.values)? {
            if shape.kind.keeps_right() {
                out.push(padded_left(&row, shape.left_columns.len()));
            } else {
                self.note(&row.from, Bucket::Unmatched);
            }
            return Ok(());
        }
        let key = self.key(shape.keys.iter().map(|(_, r)| r), &right_ids, &row.values)?;
        let mut matched = false;
        for other in sides.left.get_mut(&key).into_iter().flatten() {
            let both = joined(&other.row, &row);
            if self.all_hold(&shape.rest, ids, &both.values)? {
                if shape.kind == JoinKind::LeftSemi {
                    out.push(Row { values: other.row.values.clone(), from: both.from });
                } else {
                    out.push(both);
                }
                matched = true;
                other.matched = true;
            }
        }
        if shape.kind == JoinKind::LeftSemi {
            // A semi-joined left row leaves the state with its first match.
            if let Some(rows) = sides.left.get_mut(&key) {
                rows.retain(|kept| !kept.matched);
            }
        }
        let gone = is_gone(shape.bounds.right.as_ref(), &shape.right_columns, &key, &row, evict_ms)?;
        if !gone || (shape.kind.keeps_right() && !matched) {
            sides.right.entry(key).or_default().push(Kept { row, matched });
        } else if !matched {
            self.note(&row.from, Bucket::Unmatched);
        }
        Ok(())
    }

    /// Removes what the watermark lets go; rows of an outer side that never matched come out padded.
    fn forget(&mut self, shape: &Shape, sides: &mut Sides, out: &mut Vec<Row>, evict_ms: i64) -> Result<(), Refusal> {
        let (left_count, right_count) = (shape.left_columns.len(), shape.right_columns.len());
        for kept in removed(&mut sides.left, shape.bounds.left.as_ref(), &shape.left_columns, evict_ms)? {
            match kept.matched {
                false if shape.kind.keeps_left() => out.push(padded_right(&kept.row, right_count)),
                false => self.note(&kept.row.from, Bucket::Unmatched),
                true => {}
            }
        }
        for kept in removed(&mut sides.right, shape.bounds.right.as_ref(), &shape.right_columns, evict_ms)? {
            match kept.matched {
                false if shape.kind.keeps_right() => out.push(padded_left(&kept.row, left_count)),
                false => self.note(&kept.row.from, Bucket::Unmatched),
                true => {}
            }
        }
        Ok(())
    }

    fn all_hold(&self, conditions: &[Expr], ids: &[ColumnId], values: &[Value]) -> Result<bool, Refusal> {
        for condition in conditions {
            if !condition.holds(&self.scope(ids, values))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn key<'e>(
        &self,
        exprs: impl Iterator<Item = &'e Expr>,
        ids: &[ColumnId],
        values: &[Value],
    ) -> Result<Vec<Value>, Refusal> {
        let scope = self.scope(ids, values);
        exprs.map(|e| Ok(e.eval(&scope)?.normalized())).collect()
    }
}

fn is_gone(
    forget: Option<&Forget>,
    columns: &[Column],
    key: &[Value],
    row: &Row,
    evict_ms: i64,
) -> Result<bool, Refusal> {
    Ok(match forget {
        None => false,
        Some(forget @ Forget::Key(index)) => is_up_to(&key[*index], forget.bound_ms(evict_ms)),
        Some(forget @ Forget::Row { column, .. }) => {
            is_up_to(&row.values[index_of(columns, *column)?], forget.bound_ms(evict_ms))
        }
    })
}

fn removed(
    side: &mut BTreeMap<Vec<Value>, Vec<Kept>>,
    forget: Option<&Forget>,
    columns: &[Column],
    evict_ms: i64,
) -> Result<Vec<Kept>, Refusal> {
    let mut gone = Vec::new();
    for (key, rows) in side.iter_mut() {
        let mut stay = Vec::new();
        for kept in rows.drain(..) {
            if is_gone(forget, columns, key, &kept.row, evict_ms)? {
                gone.push(kept);
            } else {
                stay.push(kept);
            }
        }
        *rows = stay;
    }
    side.retain(|_, rows| !rows.is_empty());
    Ok(gone)
}
