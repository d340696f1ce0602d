//! Starting a query: everything is checked before anything is written; then the logs say where to begin.

use std::collections::BTreeMap;
use std::sync::Arc;

use datafusion::execution::{SessionState, TaskContext};
use datafusion::physical_plan::displayable;
use object_store::memory::InMemory;
use object_store::path::Path;

use crate::checkpoint::Checkpoint;
use crate::conf::{
    ALLOW_MULTIPLE, CHECKPOINT_LOCATION, Conf, MIN_DELTAS_FOR_SNAPSHOT, OWED_NO_DATA_BATCH, SHUFFLE_PARTITIONS,
    SOURCES, WATERMARK_POLICY,
};
use crate::environment::Environment;
use crate::error::{Error, Result};
use crate::microbatch::driver::{Driver, Identity, Parts, RunSettings, StartPoint};
use crate::microbatch::recover::{self, Start};
use crate::microbatch::watermarks::WatermarkTracker;
use crate::options::Options;
use crate::plan::check::{CheckSettings, check_streaming};
use crate::plan::physical::{PlannedQuery, analyse, plan_logical, streaming};
use crate::planted::planted;
use crate::query::{QuerySetup, StreamingQuery};
use crate::session::Session;
use crate::sink::{SinkContext, SinkProvider};
use crate::source::{Source, SourceContext};
use crate::sql::duplicates::user_schema;
use crate::state::{OperatorState, Reconciled, RecordedOperator, SnapshotPolicy, check_operators, settle_operators};
use crate::storage::{Folder, Storage};
use crate::writer::DataStreamWriter;

/// A query that has only to be spawned.
pub(crate) struct Ready {
    pub(crate) driver: Driver,
    setup: QuerySetup,
}

/// Starts the query as a task of the current tokio runtime.
pub(crate) fn spawn(session: &Session, ready: Ready) -> StreamingQuery {
    let (query, life) = StreamingQuery::new(ready.driver, ready.setup);
    session.streams().add(query.clone());
    #[expect(clippy::disallowed_methods, reason = "the one place where the engine spawns: the query's own task")]
    tokio::spawn(life);
    query
}

/// Everything up to the first trigger.
pub(crate) async fn prepare(writer: DataStreamWriter) -> Result<Ready> {
    let session = writer.frame.session().clone();
    let state = session.inner.context.state();
    let sink_provider = writer.sink_provider()?;
    let sink_options = check_writer(&writer, sink_provider.as_ref(), &session)?;
    let analysed = analyse(writer.frame.plan().clone(), &state)?;
    check_streaming(&analysed, writer.output_mode, &CheckSettings::from_conf(&session.conf())?)?;
    let logical = plan_logical(analysed, &state, writer.output_mode, session.inner.parallelism)?;

    let environment = &session.inner.environment;
    let folder = checkpoint_folder(&writer, sink_provider.as_ref(), &session)?;
    let checkpoint = Checkpoint::open(environment, folder).await?;
    let formats = logical.source_formats()?.join(",");
    let (from, conf) = begin(&checkpoint, logical.occurrences_count(), &formats, session.conf()).await?;
    if from.has_history() && !sink_provider.recovers(writer.output_mode) {
        return Err(Error::analysis(format!(
            "This query does not support recovering from checkpoint location. Delete {} to start over.",
            checkpoint.folder().uri("offsets")
        )));
    }
    let partitions = conf.positive(SHUFFLE_PARTITIONS)? as usize;
    let plan = logical.plan_physical(&state, partitions, Arc::clone(&environment.clock)).await?;
    let explained = displayable(plan.physical.as_ref()).indent(false).to_string();
    let prepared = Prepared { writer, session, state, conf, formats, sink_provider, sink_options };
    let setup = prepared.setup(explained)?;
    Ok(Ready { driver: prepared.driver(checkpoint, plan, from).await?, setup })
}

/// The plans of a query, logical and physical. Neither the checkpoint nor the sink is touched; the partitions of state
/// are the session's, as in a first start.
pub(crate) async fn explain(writer: DataStreamWriter) -> Result<String> {
    let session = writer.frame.session().clone();
    let state = session.inner.context.state();
    let sink_provider = writer.sink_provider()?;
    check_writer(&writer, sink_provider.as_ref(), &session)?;
    let analysed = analyse(writer.frame.plan().clone(), &state)?;
    let conf = session.conf();
    check_streaming(&analysed, writer.output_mode, &CheckSettings::from_conf(&conf)?)?;
    let logical = plan_logical(analysed, &state, writer.output_mode, session.inner.parallelism)?;
    let partitions = conf.positive(SHUFFLE_PARTITIONS)? as usize;
    let plan = logical.plan_physical(&state, partitions, Arc::clone(&session.inner.environment.clock)).await?;
    Ok(format!(
        "Logical plan:\n{}\n\nPhysical plan:\n{}",
        plan.logical.display_indent(),
        displayable(plan.physical.as_ref()).indent(false)
    ))
}

/// What a start has found out before it opens sources, state and sink.
struct Prepared {
    writer: DataStreamWriter,
    session: Session,
    state: SessionState,
    conf: Conf,
    formats: String,
    sink_provider: Arc<dyn SinkProvider>,
    sink_options: Options,
}

impl Prepared {
    fn setup(&self, explained: String) -> Result<QuerySetup> {
        Ok(QuerySetup {
            clock: Arc::clone(&self.session.inner.environment.clock),
            trigger: self.writer.trigger,
            listeners: self.session.streams().listeners(),
            reports_kept: self.conf.positive("spark.sql.streaming.numRecentProgressUpdates")? as usize,
            explained,
        })
    }

    async fn driver(self, checkpoint: Checkpoint, plan: PlannedQuery, from: StartPoint) -> Result<Driver> {
        let environment = &self.session.inner.environment;
        let policy =
            SnapshotPolicy { min_deltas: self.conf.positive(MIN_DELTAS_FOR_SNAPSHOT)?, ..SnapshotPolicy::default() };
        let changed = open_state(environment.storage.as_ref(), &checkpoint, &plan, &from, policy).await?;
        let sources = self.sources(&checkpoint, &plan).await?;
        let id = checkpoint.id().to_string();
        // A run id that no other run of this checkpoint has: the same start in the same world has the same one.
        let run = format!("run {} of {id} from batch {}", self.session.next_start(), from.batch_id);
        // What a sink draws is its run's alone: names that an earlier run of this session gave and asked to delete are not
        // given again, because on an object store that request may still be under way.
        let entropy = environment.entropy.fork(&run);
        let sink = self
            .sink_provider
            .sink(SinkContext {
                environment: Environment { entropy, ..environment.clone() },
                schema: user_schema(Arc::clone(&plan.schema)),
                output_mode: self.writer.output_mode,
                options: self.sink_options.clone(),
                partition_by: self.writer.partition_by.clone(),
                query_name: self.writer.query_name.clone(),
                query_id: checkpoint.id().to_string(),
                next_batch_id: from.batch_id,
                is_new: !from.has_history(),
                interrupted: from.unfinished.is_some() && checkpoint.is_locked(),
            })
            .await?;
        if let (Some(table), Some(name)) = (sink.table(), &self.writer.query_name) {
            self.session.register_table(name, table)?;
        }
        let policy = self.conf.get(WATERMARK_POLICY).unwrap_or_default().parse()?;
        let tracker = WatermarkTracker::new(policy, plan.watermark_nodes.len(), from.watermark_ms);
        let identity =
            Identity { run_id: environment.entropy.uuid(&run).to_string(), id, name: self.writer.query_name.clone() };
        let settings = RunSettings {
            trigger: self.writer.trigger,
            no_data_batches: self.conf.boolean("spark.sql.streaming.noDataMicroBatches.enabled")?,
            single_watermark: !self.conf.boolean(ALLOW_MULTIPLE)?,
            owed_no_data_batch: self.conf.boolean(OWED_NO_DATA_BATCH)?,
            min_batches_to_retain: self.conf.positive("spark.sql.streaming.minBatchesToRetain")?,
        };
        let parts = Parts {
            environment: environment.clone(),
            identity,
            plan,
            sources,
            sink,
            checkpoint,
            changed_operators: changed,
            logged_conf: self.conf.pinned().into_iter().chain([(SOURCES.to_owned(), self.formats)]).collect(),
            settings,
            task_context: Arc::new(TaskContext::from(&self.state)),
        };
        Driver::open(parts, from, tracker).await
    }

    async fn sources(&self, checkpoint: &Checkpoint, plan: &PlannedQuery) -> Result<Vec<Arc<dyn Source>>> {
        let mut sources = vec![];
        for (index, relation) in plan.relations.iter().enumerate() {
            let relation = streaming(relation)?;
            let context = SourceContext {
                environment: self.session.inner.environment.clone(),
                folder: checkpoint.source_folder(index),
                schema: Arc::clone(&relation.schema),
            };
            sources.push(relation.provider.stream(&relation.definition, context).await?);
        }
        Ok(sources)
    }
}

/// Checks what the user asked of the sink; answers the options that are the sink's own.
fn check_writer(writer: &DataStreamWriter, sink: &dyn SinkProvider, session: &Session) -> Result<Options> {
    session.streams().check_name(writer.query_name.as_deref())?;
    if !writer.frame.is_streaming() {
        return Err(Error::analysis_class(
            "WRITE_STREAM_NOT_ALLOWED",
            "`writeStream` can be called only on streaming Dataset/DataFrame. Read with read_stream() (in SQL: FROM \
             STREAM t), or collect() the static frame.",
        ));
    }
    if !sink.supports(writer.output_mode) {
        return Err(Error::analysis_class(
            "STREAMING_OUTPUT_MODE.UNSUPPORTED_DATASOURCE",
            format!(
                "Invalid streaming output mode: {}. This output mode is not supported in Data Source {}. Choose \
                 another mode or another sink.",
                writer.output_mode,
                sink.short_name()
            ),
        ));
    }
    if !writer.partition_by.is_empty() && !sink.supports_partition_by() {
        return Err(Error::analysis(format!("'{}' does not support partitioning.", sink.short_name())));
    }
    let mut options = writer.options.clone();
    options.take("checkpointLocation");
    sink.check_options(&options)?;
    Ok(options)
}

/// The checkpoint's folder: as the query says, as the session says, or in memory for sinks that need none.
fn checkpoint_folder(writer: &DataStreamWriter, sink: &dyn SinkProvider, session: &Session) -> Result<Folder> {
    let storage = &session.inner.environment.storage;
    if let Some(location) = writer.options.get("checkpointLocation") {
        if location.trim().is_empty() {
            return Err(Error::analysis(
                "Can not create a Path from an empty string: checkpointLocation is empty. Name a folder.",
            ));
        }
        return storage.folder(location);
    }
    if let (Some(base), Some(name)) = (session.conf().get(CHECKPOINT_LOCATION), &writer.query_name) {
        return Ok(storage.folder(base)?.child(name));
    }
    if sink.allows_temporary_checkpoint() {
        // It ends with the query, so nothing is gained by making it durable.
        return Ok(Folder {
            store: Arc::new(InMemory::new()),
            path: Path::from("checkpoint"),
            uri_root: "memory://".into(),
        });
    }
    Err(Error::analysis(
        "checkpointLocation must be specified either through option(\"checkpointLocation\", ...) or \
         SparkSession.conf.set(\"spark.sql.streaming.checkpointLocation\", ...). It is where the query remembers what \
         it has done.",
    ))
}

/// What the logs say, and the configuration under what they pin.
async fn begin(checkpoint: &Checkpoint, occurrences: usize, formats: &str, conf: Conf) -> Result<(StartPoint, Conf)> {
    let latest_id = checkpoint.offsets.latest();
    let (mut latest, mut previous, mut before_previous) = (None, None, None);
    if let Some(id) = latest_id {
        latest = checkpoint.offsets.get(id).await?;
        if id > 0 {
            previous = checkpoint.offsets.get(id - 1).await?;
        }
        before_previous = previous.as_ref().map(|entry| entry.batch_watermark_ms);
    }
    let commit = match checkpoint.commits.latest() {
        Some(id) => checkpoint.commits.get(id).await?.map(|entry| (id, entry)),
        None => None,
    };
    let uri = checkpoint.folder().uri("");
    let start = recover::start(recover::Found {
        latest: latest_id.zip(latest.as_ref()),
        previous: previous.as_ref(),
        commit: commit.as_ref().map(|(id, entry)| (*id, entry)),
        source_count: occurrences,
        checkpoint: &uri,
    })?;
    if let Some(logged) = latest.as_ref().and_then(|entry| entry.conf.get(SOURCES)) {
        check_formats(&uri, logged, formats)?;
    }
    let none = BTreeMap::new();
    Ok(match start {
        Start::Fresh => (StartPoint::fresh(occurrences), conf.with_pinned(&none)),
        Start::Rerun { batch_id, start, promised, lost } => {
            if let Some((first, last)) = lost {
                tracing::warn!("batches {first} to {last} were promised but are not known to be done");
            }
            let conf = conf.with_pinned(&promised.conf);
            let point = StartPoint {
                batch_id,
                start,
                watermark_ms: promised.batch_watermark_ms,
                previous_watermark_ms: before_previous.unwrap_or(0),
                unfinished: Some((promised.offsets, promised.batch_timestamp_ms)),
            };
            (point, conf)
        }
        Start::Next { batch_id, start, watermark_ms, conf: logged } => {
            let previous_watermark_ms = match latest {
                _ if planted("restart-forgets-the-late-watermark") => 0,
                _ if planted("restart-takes-the-new-watermark-for-late-rows") => watermark_ms,
                latest => latest.map_or(0, |entry| entry.batch_watermark_ms),
            };
            let point = StartPoint { batch_id, start, watermark_ms, previous_watermark_ms, unfinished: None };
            let none = BTreeMap::new();
            (point, conf.with_pinned(if planted("partitions-follow-the-session") { &none } else { &logged }))
        }
    })
}

/// What was promised in the offsets of one source means nothing to another. Spark finds out where it cannot read them.
fn check_formats(checkpoint: &str, logged: &str, formats: &str) -> Result<()> {
    let changed = logged.split(',').zip(formats.split(',')).position(|(there, here)| there != here);
    let Some(at) = changed else { return Ok(()) };
    let nth = |formats: &str| formats.split(',').nth(at).unwrap_or_default().to_owned();
    Err(Error::checkpoint(
        checkpoint,
        format!(
            "source {at} of the query was read from '{}' and is now read from '{}'. Offsets of the one mean nothing to the \
             other. Give the query the sources it had, in their order, or use a new checkpointLocation.",
            nth(logged),
            nth(formats)
        ),
    ))
}

/// Opens the state of every operator at the version that the next batch reads; answers what the first batch has to write
/// down about it.
async fn open_state(
    storage: &dyn Storage,
    checkpoint: &Checkpoint,
    plan: &PlannedQuery,
    from: &StartPoint,
    policy: SnapshotPolicy,
) -> Result<Vec<RecordedOperator>> {
    let folder = checkpoint.state_folder();
    let specs: Vec<_> = plan.operators.iter().map(|operator| operator.spec.clone()).collect();
    let reconciled = match from.batch_id {
        0 => specs.into_iter().map(|spec| Reconciled { spec, turned: vec![], record: None }).collect(),
        version => {
            settle_operators(storage, &folder, &specs).await?;
            check_operators(&folder, &specs, version).await?
        }
    };
    let mut changed = vec![];
    for (operator, Reconciled { spec, turned, record }) in plan.operators.iter().zip(reconciled) {
        changed.extend(record);
        let state = OperatorState::new(&folder, spec, policy)?.with_turned(&folder, turned);
        state.begin(from.batch_id).await?;
        operator.set_state(state)?;
    }
    Ok(changed)
}
