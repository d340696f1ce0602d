//! Sessions of visits, with state of one's own: Spark's example StructuredSessionization in Rust.
//!
//! A session of a user ends when the watermark is 5 minutes past its last visit; then its length and its number of
//! visits come out. Run it over the visits beside it, file by file, or over a folder of your own with JSON lines of
//! `user`, `at` and `page`:
//!
//! ```text
//! cargo run --example structured_sessionization
//! cargo run --example structured_sessionization -- path/to/folder
//! ```

use datafusion::prelude::col;
use serde::{Deserialize, Serialize};
use wavetank::groups::{GroupState, GroupStateTimeout, Timestamp, Values};
use wavetank::prelude::*;

/// How long a user may do nothing.
const GAP_MS: i64 = 5 * 60 * 1000;

/// A row of the input, as far as it is needed.
#[derive(Deserialize)]
pub struct Visit {
    at: Timestamp,
}

/// What is kept of an open session.
#[derive(Clone, Serialize, Deserialize)]
pub struct Open {
    from: Timestamp,
    to: Timestamp,
    visits: i64,
}

/// A session that has ended.
#[derive(Serialize, Deserialize)]
pub struct Ended {
    user: String,
    from: Timestamp,
    seconds: i64,
    visits: i64,
}

impl Open {
    fn ended(self, user: &str) -> Ended {
        let seconds = (self.to.millis() - self.from.millis()) / 1000;
        Ended { user: user.to_owned(), from: self.from, seconds, visits: self.visits }
    }
}

/// One call for a user: with visits, or without any because the session has timed out.
pub fn session_of(
    user: String,
    visits: Values<'_, Visit>,
    state: &mut GroupState<Open>,
) -> wavetank::Result<Vec<Ended>> {
    if state.has_timed_out() {
        let ended = state.get()?.clone().ended(&user);
        state.remove();
        return Ok(vec![ended]);
    }
    let mut times: Vec<Timestamp> = visits.map(|visit| visit.at).collect();
    times.sort();
    let mut ended = vec![];
    let mut open = state.get_option().cloned();
    for at in times {
        // A pause that is over before the watermark has seen it.
        if let Some(before) = open.take_if(|open| at.millis() > open.to.millis() + GAP_MS) {
            ended.push(before.ended(&user));
        }
        let session = open.get_or_insert(Open { from: at, to: at, visits: 0 });
        session.from = session.from.min(at);
        session.to = session.to.max(at);
        session.visits += 1;
    }
    if let Some(open) = open {
        let until_ms = open.to.millis() + GAP_MS;
        state.update(open);
        // Not before the watermark: the visits may be old news.
        state.set_timeout_timestamp(until_ms.max(state.get_current_watermark_ms()?))?;
    }
    Ok(ended)
}

/// The sessions of a stream of visits.
pub fn sessions(visits: &DataFrame) -> wavetank::Result<DataFrame> {
    visits.with_watermark("at", "10 minutes")?.group_by([col("user")]).flat_map_groups_with_state(
        OutputMode::Append,
        GroupStateTimeout::EventTimeTimeout,
        session_of,
    )
}

#[tokio::main]
async fn main() -> wavetank::Result<()> {
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/visits");
    let folder = std::env::args().nth(1).unwrap_or_else(|| beside.to_owned());
    let session = wavetank::session()?;
    let visits = session
        .read_stream()
        .format("json")
        .schema_ddl("user STRING, at TIMESTAMP, page STRING")?
        .option("maxFilesPerTrigger", 1)
        .load_path(&folder)
        .await?;
    sessions(&visits)?
        .write_stream()
        .format("console")
        .option("truncate", false)
        .trigger(Trigger::AvailableNow)
        .start()
        .await?
        .await_termination()
        .await
}
