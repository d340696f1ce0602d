//! `transform_with_state` on a grouped frame.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::processor::{StatefulProcessor, StatefulProcessorWithInitialState, TimeMode};
use super::transform::{InitialRows, SerdeTransform, TransformFunction, variables_of};
use super::verbs::Keyed;
use crate::conf::ENCODING_FORMAT;
use crate::dataframe::{DataFrame, GroupedData};
use crate::error::{Error, Result};
use crate::plan::groups::{Grouping, KeyedKind};
use crate::rows::RecordShape;
use crate::sink::OutputMode;

impl GroupedData {
    /// The rows of a processor with state variables and timers, called for each key (`spec/04` section 6). `mode` is
    /// handed to its `init` and means nothing else. On a static frame it is called once, with state that nobody keeps.
    pub fn transform_with_state<P: StatefulProcessor>(
        &self,
        processor: P,
        time_mode: TimeMode,
        mode: OutputMode,
    ) -> Result<DataFrame> {
        let keyed = Keyed::new(self)?;
        transform(&keyed, processor, Settings { time_mode, mode, event_time: None }, None)
    }

    /// [`GroupedData::transform_with_state`] in [`TimeMode::EventTime`] whose result has event time in a column of its
    /// own, so that stateful operators can come after it. No row may be older than the watermark.
    pub fn transform_with_state_event_time<P: StatefulProcessor>(
        &self,
        processor: P,
        event_time_column: &str,
        mode: OutputMode,
    ) -> Result<DataFrame> {
        let keyed = Keyed::new(self)?;
        let settings = Settings { time_mode: TimeMode::EventTime, mode, event_time: Some(event_time_column) };
        transform(&keyed, processor, settings, None)
    }

    /// [`GroupedData::transform_with_state`] that begins with the rows of `initial`, a static frame grouped by the same
    /// key: in the first batch, before any input.
    pub fn transform_with_initial_state<P: StatefulProcessorWithInitialState>(
        &self,
        processor: P,
        time_mode: TimeMode,
        mode: OutputMode,
        initial: &GroupedData,
    ) -> Result<DataFrame> {
        let keyed = Keyed::new(self)?;
        let first = keyed.same_keys(initial)?;
        let rows = InitialRows::<P>::new(first.value_source::<P::Initial>()?);
        transform(&keyed, processor, Settings { time_mode, mode, event_time: None }, Some((rows, first.grouping())))
    }
}

struct Settings<'a> {
    time_mode: TimeMode,
    mode: OutputMode,
    event_time: Option<&'a str>,
}

fn transform<P: StatefulProcessor>(
    keyed: &Keyed,
    processor: P,
    settings: Settings<'_>,
    initial: Option<(InitialRows<P>, Grouping)>,
) -> Result<DataFrame> {
    let Settings { time_mode, mode, event_time } = settings;
    if keyed.keys.is_empty() {
        return Err(Error::analysis("transform_with_state needs a key. Group by at least one column."));
    }
    let made = variables_of(&processor, mode, time_mode)?;
    let (initial, grouping) = initial.unzip();
    let program = SerdeTransform {
        processor,
        keys: keyed.key_source::<P::Key>()?,
        rows: keyed.value_source::<P::Row>()?,
        initial,
        output: RecordShape::of::<P::Output>()?,
        mode,
        time_mode,
    };
    let output = Arc::clone(program.output.schema());
    let event_time = match event_time {
        None => None,
        Some(name) => {
            let is_time = |at: &usize| matches!(output.field(*at).data_type(), DataType::Timestamp(_, Some(_)));
            let found = output.fields().iter().position(|field| field.name().eq_ignore_ascii_case(name));
            Some(found.filter(is_time).ok_or_else(|| {
                Error::analysis_class(
                    "EVENT_TIME_IS_NOT_ON_TIMESTAMP_TYPE",
                    format!(
                        "The event time `{name}` must be a column of type TIMESTAMP of the processor's result. Give the \
                         result a field of type Timestamp with this name."
                    ),
                )
            })?)
        }
    };
    let by_name = keyed.conf().get(ENCODING_FORMAT).is_some_and(|format| format.eq_ignore_ascii_case("avro"));
    let (variables, deleted, program) = (made.specs, made.deleted, Arc::new(program));
    let output_columns = Arc::clone(&output);
    let function =
        TransformFunction { output: output_columns, variables, time_mode, mode, deleted, by_name, event_time, program };
    keyed.node(grouping, KeyedKind::Transform(function), output)
}
