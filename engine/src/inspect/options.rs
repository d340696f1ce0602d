//! The options of `statestore`, checked as Spark checks them (`spec/04`, "Reading state as a table").

use crate::error::{Error, Result};
use crate::options::Options;
use crate::state::DEFAULT_STORE;

const KNOWN: [&str; 14] = [
    "path",
    "checkpointLocation",
    "batchId",
    "operatorId",
    "storeName",
    "joinSide",
    "readChangeFeed",
    "changeStartBatchId",
    "changeEndBatchId",
    "flattenCollectionTypes",
    "stateVarName",
    "readRegisteredTimers",
    "snapshotStartBatchId",
    "snapshotPartitionId",
];

/// One side of a stream-stream join.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinSide {
    Left,
    Right,
}

/// What is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// The state after a batch; the last committed one for `None`.
    After(Option<u64>),
    /// The same of one partition, put together from the snapshot that was made after a batch and the deltas since.
    FromSnapshot {
        /// The batch of the snapshot.
        start: u64,
        /// The partition.
        partition: u32,
        /// As in [`Wanted::After`].
        after: Option<u64>,
    },
    /// What these batches changed, both included; to the last committed one for `None`.
    Changes(u64, Option<u64>),
}

/// What of a transformWithState operator is to be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// The variable of this name.
    Named(String),
    /// The timers.
    Timers,
}

/// The options, checked among themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateOptions {
    pub(super) wanted: Wanted,
    pub(super) operator_id: u32,
    /// The store that the user named.
    pub(super) named_store: Option<String>,
    pub(super) join_side: Option<JoinSide>,
    pub(super) variable: Option<Variable>,
    /// Whether lists and maps are shown element by element.
    pub(super) flattened: bool,
}

impl StateOptions {
    /// The store to read.
    pub(super) fn store_name(&self) -> &str {
        self.named_store.as_deref().unwrap_or(DEFAULT_STORE)
    }

    pub(super) fn of(options: &Options) -> Result<Self> {
        options.refuse_unknown("Source statestore", &KNOWN)?;
        let join_side = match options.get("joinSide").map(str::to_lowercase).as_deref() {
            None | Some("none") => None,
            Some("left") => Some(JoinSide::Left),
            Some("right") => Some(JoinSide::Right),
            Some(_) => return Err(invalid("joinSide", "Valid values are left,right,none")),
        };
        let changes = options.boolean("readChangeFeed", false)?;
        if join_side.is_some() && options.get("storeName").is_some() {
            return Err(conflict("['joinSide', 'storeName']"));
        }
        if join_side.is_some() && changes {
            return Err(conflict("['joinSide', 'readChangeFeed']"));
        }
        let variable = match (options.get("stateVarName"), options.boolean("readRegisteredTimers", false)?) {
            (Some(_), true) => return Err(conflict("['readRegisteredTimers', 'stateVarName']")),
            (Some(name), false) => Some(Variable::Named(name.to_owned())),
            (None, true) => Some(Variable::Timers),
            (None, false) => None,
        };
        let wanted = if changes { changed(options)? } else { after(options)? };
        for name in ["changeStartBatchId", "changeEndBatchId"] {
            if !changes && options.get(name).is_some() {
                return Err(invalid(name, "Only specify this option when readChangeFeed is set to true."));
            }
        }
        let operator_id = number(options, "operatorId")?.unwrap_or(0);
        Ok(Self {
            wanted,
            operator_id: u32::try_from(operator_id).unwrap_or(u32::MAX),
            named_store: options.get("storeName").map(str::to_owned),
            join_side,
            variable,
            flattened: options.boolean("flattenCollectionTypes", true)?,
        })
    }
}

fn after(options: &Options) -> Result<Wanted> {
    let after = number(options, "batchId")?;
    let required = |name: &str| {
        let text = format!("'{name}' must be specified. A snapshot is that of one partition after one batch.");
        Error::analysis_class("STDS_REQUIRED_OPTION_UNSPECIFIED", text)
    };
    let (start, partition) = match (number(options, "snapshotStartBatchId")?, number(options, "snapshotPartitionId")?) {
        (None, None) => return Ok(Wanted::After(after)),
        (Some(_), None) => return Err(required("snapshotPartitionId")),
        (None, Some(_)) => return Err(required("snapshotStartBatchId")),
        (Some(start), Some(partition)) => (start, partition),
    };
    if let Some(after) = after.filter(|after| start > *after) {
        return Err(invalid("snapshotStartBatchId", &format!("value should be less than or equal to {after}.")));
    }
    Ok(Wanted::FromSnapshot { start, partition: u32::try_from(partition).unwrap_or(u32::MAX), after })
}

fn changed(options: &Options) -> Result<Wanted> {
    for name in ["snapshotStartBatchId", "snapshotPartitionId"] {
        if options.get(name).is_some() {
            return Err(conflict(&format!("['{name}', 'readChangeFeed']")));
        }
    }
    if options.get("batchId").is_some() {
        return Err(conflict("['batchId', 'readChangeFeed']"));
    }
    let first = number(options, "changeStartBatchId")?.ok_or_else(|| {
        Error::analysis_class(
            "STDS_REQUIRED_OPTION_UNSPECIFIED",
            "'changeStartBatchId' must be specified. It is the first batch whose changes are read.",
        )
    })?;
    let last = number(options, "changeEndBatchId")?;
    if last.is_some_and(|last| last < first) {
        return Err(invalid("changeEndBatchId", "changeEndBatchId cannot be smaller than changeStartBatchId."));
    }
    Ok(Wanted::Changes(first, last))
}

fn number(options: &Options, name: &str) -> Result<Option<u64>> {
    let Some(text) = options.get(name) else { return Ok(None) };
    match text.trim().parse::<i64>() {
        Ok(number) if number < 0 => Err(Error::analysis_class(
            "STDS_INVALID_OPTION_VALUE.IS_NEGATIVE",
            format!("Invalid value for source option '{name}': cannot be negative. It was {number}."),
        )),
        Ok(number) => Ok(Some(number as u64)),
        Err(_) => Err(invalid(name, &format!("'{text}' is not a whole number."))),
    }
}

pub(super) fn invalid(name: &str, why: &str) -> Error {
    Error::analysis_class(
        "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE",
        format!("Invalid value for source option '{name}': {why}"),
    )
}

fn conflict(names: &str) -> Error {
    Error::analysis_class(
        "STDS_CONFLICT_OPTIONS",
        format!("The options {names} cannot be specified together. Please specify the one."),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Options and the class of Spark's answer; the empty class is no error.
    const CASES: &[(&[(&str, &str)], &str)] = &[
        (&[], ""),
        (&[("batchId", "0"), ("operatorId", "1"), ("STORENAME", "left")], ""),
        (&[("batchId", "-1")], "STDS_INVALID_OPTION_VALUE.IS_NEGATIVE"),
        (&[("batchId", "x")], "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE"),
        (&[("operatorId", "-1")], "STDS_INVALID_OPTION_VALUE.IS_NEGATIVE"),
        (&[("joinSide", "LEFT")], ""),
        (&[("joinSide", "none"), ("storeName", "left")], ""),
        (&[("joinSide", "up")], "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE"),
        (&[("joinSide", "left"), ("storeName", "x")], "STDS_CONFLICT_OPTIONS"),
        (&[("joinSide", "left"), ("readChangeFeed", "true")], "STDS_CONFLICT_OPTIONS"),
        (&[("readChangeFeed", "true")], "STDS_REQUIRED_OPTION_UNSPECIFIED"),
        (&[("readChangeFeed", "true"), ("changeStartBatchId", "0")], ""),
        (
            &[("readChangeFeed", "true"), ("changeStartBatchId", "2"), ("changeEndBatchId", "1")],
            "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE",
        ),
        (&[("changeStartBatchId", "0")], "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE"),
        (&[("snapshotStartBatchId", "0")], "STDS_REQUIRED_OPTION_UNSPECIFIED"),
        (&[("snapshotPartitionId", "0")], "STDS_REQUIRED_OPTION_UNSPECIFIED"),
        (&[("snapshotStartBatchId", "0"), ("snapshotPartitionId", "0")], ""),
        (&[("snapshotStartBatchId", "-1"), ("snapshotPartitionId", "0")], "STDS_INVALID_OPTION_VALUE.IS_NEGATIVE"),
        (
            &[("snapshotStartBatchId", "2"), ("snapshotPartitionId", "0"), ("batchId", "1")],
            "STDS_INVALID_OPTION_VALUE.WITH_MESSAGE",
        ),
        (
            &[("snapshotStartBatchId", "0"), ("readChangeFeed", "true"), ("changeStartBatchId", "0")],
            "STDS_CONFLICT_OPTIONS",
        ),
        (&[("stateVarName", "x")], ""),
        (&[("readRegisteredTimers", "true"), ("flattenCollectionTypes", "false")], ""),
        (&[("readRegisteredTimers", "true"), ("stateVarName", "x")], "STDS_CONFLICT_OPTIONS"),
    ];

    #[test]
    fn options_are_checked_as_spark_does() {
        for (pairs, class) in CASES {
            let options: Options = pairs.iter().copied().collect();
            match StateOptions::of(&options) {
                Ok(_) => assert_eq!(*class, "", "{pairs:?}"),
                Err(error) => assert_eq!(error.class().unwrap_or_default(), *class, "{pairs:?}: {error}"),
            }
        }
    }

    #[test]
    fn a_misspelt_option_is_refused_with_the_right_one() {
        let error = StateOptions::of(&Options::new().with("batchID2", "1")).expect_err("it is unknown");
        assert!(error.to_string().contains("Did you mean 'batchId'?"), "{error}");
    }
}
