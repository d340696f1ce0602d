//! Spark's functions: which there are in a session, and what stands for them in a plan.
//!
//! ```text
//! session_builder, session_config       a DataFusion session with Spark's names, types and rules
//! window.rs          window(), session_window(), window_time(): the calls, and the arithmetic of panes and windows
//! window_rewrite.rs  a planned query -> the same with window columns below the node that calls window()
//! window_expand.rs   the node (logical and physical) that gives one row to each of its sliding windows
//! session_merge.rs   which sessions some rows form; session_assign.rs: the node that tells static rows theirs
//! generator.rs       explode() and its family -> Unnest
//! operators.rs       how a / b, a % b, a[i], s.field are planned
//! text.rs            strings: split(), locate(), regexp_extract(), ...
//! datetime.rs        times: date_format(), to_timestamp(), ... (datetime_pattern.rs: Java's patterns)
//! collections.rs     arrays and maps: element_at(), sequence(), ...
//! json.rs            get_json_object(), from_json(), ...
//! sample.rs          samples, monotonically_increasing_id(): refused by streams
//! rounding.rs        round(), bround(), format_number(); numbers.rs: logarithms, conv(); murmur.rs: hash()
//! number_pattern.rs  to_char() of numbers
//! calendar.rs        months_between(), make_timestamp(), seconds with their fraction
//! higher_order.rs    functions that take a lambda: transform(), aggregate(), map_filter(), ...
//! chosen.rs          max_by(), min_by(), mode(); percentile_approx.rs; decimal_average.rs: avg() of decimals
//! by_type.rs         concat(), reverse(): one function for arrays, another for texts
//! aggregates.rs      min(), max() of nested values, skewness(), kurtosis(), ...
//! cast.rs            CAST where Spark's is not Arrow's (cast_text.rs: values as text and back)
//! call.rs            how a function of our own is written down once
//! ```
//! Names that only differ from DataFusion's are in `sql::calls`. Absent: anything that remembers (see `operators`),
//! and `now()`, `rand()` and `uuid()`, which the batch loop gives their values.

use std::sync::Arc;

use datafusion::common::config::Dialect;
use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionConfig;
use datafusion_spark::SessionStateBuilderSpark;

mod aggregates;
mod by_type;
pub(crate) mod calendar;
pub mod call;
mod cast;
mod cast_text;
mod chosen;
pub(crate) mod collections;
mod datetime;
mod datetime_pattern;
mod decimal_average;
pub mod generator;
mod higher_order;
mod json;
mod lateral;
mod murmur;
mod number_pattern;
mod numbers;
pub mod operators;
mod percentile_approx;
mod rounding;
pub mod sample;
pub mod session_assign;
pub mod session_merge;
pub mod text;
pub mod window;
pub mod window_expand;
pub mod window_rewrite;

pub(crate) use cast::{CAST_CALL, TRY_CAST_CALL};

use crate::sql::types::SparkTypePlanner;

/// A double as Spark prints it.
pub(crate) fn double_text(value: f64) -> String {
    let mut text = String::new();
    cast_text::write_double(&mut text, value);
    text
}

/// DataFusion's options for Spark's semantics and for the same plan on every machine.
///
/// `target_partitions` is how many partitions a batch is computed in; planning itself runs on one task.
pub fn session_config(target_partitions: usize) -> SessionConfig {
    let mut config = SessionConfig::new().with_target_partitions(target_partitions).with_information_schema(false);
    let options = config.options_mut();
    options.sql_parser.dialect = Dialect::Spark;
    // Names are resolved in `sql::resolve`, without regard to case but keeping the user's spelling.
    options.sql_parser.enable_ident_normalization = false;
    options.sql_parser.map_string_types_to_utf8view = false;
    options.sql_parser.parse_float_as_decimal = true;
    // Spark: nulls first ascending, nulls last descending.
    options.sql_parser.default_null_ordering = "nulls_min".to_owned();
    options.sql_parser.collect_spans = false;
    // A sort below an aggregation is refused on a stream: it must not have been forgotten before that is checked.
    options.sql_parser.enable_subquery_sort_elimination = false;
    options.execution.time_zone = Some("UTC".to_owned());
    options.execution.planning_concurrency = 1;
    options.execution.collect_statistics = false;
    options.execution.enable_ansi_mode = true;
    options.execution.parquet.schema_force_view_types = false;
    options.optimizer.expand_views_at_output = false;
    config
}

/// A session with DataFusion's functions, datafusion-spark's over them, and Wavetank's over both.
pub fn session_builder(config: SessionConfig) -> SessionStateBuilder {
    register(SessionStateBuilder::new().with_config(config).with_default_features().with_spark_features())
}

/// Adds Wavetank's own functions, operators and type names to a session; later registrations win.
pub fn register(mut builder: SessionStateBuilder) -> SessionStateBuilder {
    builder.expr_planners().get_or_insert_with(Vec::new).insert(0, Arc::new(operators::SparkOperatorPlanner));
    let own = [
        window::functions(),
        generator::functions(),
        operators::functions(),
        cast::functions(),
        text::functions(),
        datetime::functions(),
        collections::functions(),
        json::functions(),
        by_type::functions(),
        sample::functions(),
        rounding::functions(),
        numbers::functions(),
        number_pattern::functions(),
        murmur::functions(),
        calendar::functions(),
    ];
    let own = own.into_iter().flatten().chain([crate::sql::watermark_marker()]);
    builder.scalar_functions().get_or_insert_with(Vec::new).extend(own);
    // `aggregates` has DataFusion's average, which keeps decimals, as Spark's does; datafusion-spark's makes doubles of them.
    builder.aggregate_functions().get_or_insert_with(Vec::new).extend(aggregates::functions());
    builder.aggregate_functions().get_or_insert_with(Vec::new).extend(chosen::functions());
    builder.aggregate_functions().get_or_insert_with(Vec::new).extend(percentile_approx::functions());
    builder.higher_order_functions().get_or_insert_with(Vec::new).extend(higher_order::functions());
    builder.with_type_planner(Arc::new(SparkTypePlanner))
}

#[cfg(test)]
mod facts_tests;
