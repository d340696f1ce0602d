//! The handle that a processor gets in `init`: it makes state variables, and has the timers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::processor::{TimeMode, TtlConfig};
use super::variables::{ListState, MapState, Timers, ValueState, Variable, VariableKind, VariableSpec};
use crate::error::{Error, Result};

/// What the calls of one partition and batch have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) batch_id: u64,
    pub(crate) processing_ms: i64,
    pub(crate) time_mode: TimeMode,
    stage: Mutex<&'static str>,
    /// Which group of the groups at hand is being called; `NO_GROUP` between calls.
    group: AtomicUsize,
}

const NO_GROUP: usize = usize::MAX;

/// The stages of a processor's life, as Spark names them.
pub(crate) const PRE_INIT: &str = "PRE_INIT";
pub(crate) const CREATED: &str = "CREATED";
pub(crate) const INITIALIZED: &str = "INITIALIZED";
pub(crate) const TIMER_PROCESSED: &str = "TIMER_PROCESSED";
pub(crate) const CLOSED: &str = "CLOSED";

impl Shared {
    pub(crate) fn new(batch_id: u64, processing_ms: i64, time_mode: TimeMode, stage: &'static str) -> Self {
        let (stage, group) = (Mutex::new(stage), AtomicUsize::new(NO_GROUP));
        Self { batch_id, processing_ms, time_mode, stage, group }
    }

    pub(crate) fn enter_stage(&self, stage: &'static str) {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner) = stage;
    }

    fn stage(&self) -> &'static str {
        *self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn enter_group(&self, group: Option<usize>) {
        self.group.store(group.unwrap_or(NO_GROUP), Ordering::Relaxed);
    }

    /// The group being called; an error outside of calls.
    pub(crate) fn group(&self, operation: &str) -> Result<usize> {
        match self.group.load(Ordering::Relaxed) {
            NO_GROUP => Err(self.invalid(operation)),
            group => Ok(group),
        }
    }

    fn invalid(&self, operation: &str) -> Error {
        Error::analysis_class(
            "STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_HANDLE_STATE",
            format!(
                "Failed to perform stateful processor operation={operation} with invalid handle state={}. Make state \
                 variables in init, and use them in the calls for a key.",
                self.stage()
            ),
        )
    }
}

/// What a processor makes its state variables with, and registers timers with. Cheap to clone; keep a clone for timers.
#[derive(Clone, Debug, Default)]
pub struct StatefulProcessorHandle {
    inner: Option<Arc<Inner>>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    timers: Arc<Timers>,
    made: Mutex<Made>,
}

/// What `init` made.
#[derive(Debug, Default)]
pub(crate) struct Made {
    pub(crate) variables: Vec<Arc<dyn Variable>>,
    pub(crate) specs: Vec<VariableSpec>,
    /// What it deleted.
    pub(crate) deleted: Vec<String>,
}

pub(crate) fn not_initialized() -> Error {
    Error::analysis_class(
        "STATE_STORE_HANDLE_NOT_INITIALIZED",
        "The handle has not been initialized for this StatefulProcessor. Please only use the StatefulProcessor within the \
         transformWithState operator, and keep in init what the handle makes.",
    )
}

impl StatefulProcessorHandle {
    pub(crate) fn new(shared: Arc<Shared>, timers: Arc<Timers>) -> Self {
        Self { inner: Some(Arc::new(Inner { shared, timers, made: Mutex::default() })) }
    }

    pub(crate) fn made(&self) -> Result<Made> {
        Ok(std::mem::take(&mut *self.lock_made()?))
    }

    fn inner(&self) -> Result<&Inner> {
        self.inner.as_deref().ok_or_else(not_initialized)
    }

    fn lock_made(&self) -> Result<MutexGuard<'_, Made>> {
        Ok(self.inner()?.made.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A variable of one value per key.
    pub fn get_value_state<T>(&self, name: &str, ttl: TtlConfig) -> Result<ValueState<T>>
    where
        T: Serialize + DeserializeOwned + Clone + Send + 'static,
    {
        let shared = self.check_new("get_value_state", name, ttl)?;
        let state = ValueState::new(name, ttl, shared);
        self.add(state.variable(), VariableKind::Value)?;
        Ok(state)
    }

    /// A variable of a list per key.
    pub fn get_list_state<T>(&self, name: &str, ttl: TtlConfig) -> Result<ListState<T>>
    where
        T: Serialize + DeserializeOwned + Clone + Send + 'static,
    {
        let shared = self.check_new("get_list_state", name, ttl)?;
        let state = ListState::new(name, ttl, shared);
        self.add(state.variable(), VariableKind::List)?;
        Ok(state)
    }

    /// A variable of a map per key.
    pub fn get_map_state<K, V>(&self, name: &str, ttl: TtlConfig) -> Result<MapState<K, V>>
    where
        K: Serialize + DeserializeOwned + Clone + Ord + Send + 'static,
        V: Serialize + DeserializeOwned + Clone + Send + 'static,
    {
        let shared = self.check_new("get_map_state", name, ttl)?;
        let state = MapState::new(name, ttl, shared);
        self.add(state.variable(), VariableKind::Map)?;
        Ok(state)
    }

    /// Drops what a variable has, if an earlier run had one of this name; it may be made anew afterwards. A variable
    /// that `init` does not mention any more is not dropped: it comes back with its values when it is mentioned again.
    pub fn delete_if_exists(&self, name: &str) -> Result<()> {
        self.check_in_init("delete_if_exists")?;
        let mut made = self.lock_made()?;
        if made.specs.iter().any(|spec| spec.name == name) {
            return Err(Error::analysis(format!(
                "State variable {name} was made in the same init that deletes it. Delete it first."
            )));
        }
        made.deleted.push(name.to_owned());
        Ok(())
    }

    /// Calls `handle_expired_timer` for the current key when this time (milliseconds since 1970) has come. A time that is
    /// registered twice is one timer.
    pub fn register_timer(&self, expiry_ms: i64) -> Result<()> {
        let inner = self.inner()?;
        self.check_time_mode("register_timer")?;
        inner.timers.set(inner.shared.group("register_timer")?, expiry_ms, true)
    }

    /// Takes back a timer of the current key.
    pub fn delete_timer(&self, expiry_ms: i64) -> Result<()> {
        let inner = self.inner()?;
        self.check_time_mode("delete_timer")?;
        inner.timers.set(inner.shared.group("delete_timer")?, expiry_ms, false)
    }

    /// The times of the current key's timers, in order.
    pub fn list_timers(&self) -> Result<Vec<i64>> {
        let inner = self.inner()?;
        self.check_time_mode("list_timers")?;
        inner.timers.list(inner.shared.group("list_timers")?)
    }

    fn check_time_mode(&self, operation: &str) -> Result<()> {
        match self.inner()?.shared.time_mode {
            TimeMode::None => Err(Error::analysis_class(
                "STATEFUL_PROCESSOR_CANNOT_PERFORM_OPERATION_WITH_INVALID_TIME_MODE",
                format!(
                    "Failed to perform stateful processor operation={operation} with invalid timeMode=None. Pass \
                     TimeMode::ProcessingTime or TimeMode::EventTime to transform_with_state."
                ),
            )),
            _ => Ok(()),
        }
    }

    fn check_in_init(&self, operation: &str) -> Result<Arc<Shared>> {
        let shared = &self.inner()?.shared;
        match shared.stage() {
            PRE_INIT | CREATED => Ok(Arc::clone(shared)),
            _ => Err(shared.invalid(operation)),
        }
    }

    fn check_new(&self, operation: &str, name: &str, ttl: TtlConfig) -> Result<Arc<Shared>> {
        let shared = self.check_in_init(operation)?;
        let refuse = |class: &'static str, text: String| Err(Error::analysis_class(class, text));
        if name.is_empty() || name.trim() != name || name == "default" || name.contains('/') {
            return refuse(
                "STATE_STORE_CANNOT_USE_COLUMN_FAMILY_WITH_INVALID_NAME",
                format!(
                    "Failed to perform column family operation={operation} with invalid name={name}. Column family name \
                     cannot be empty or include leading/trailing spaces or use the reserved keyword=default"
                ),
            );
        }
        if name.starts_with(['_', '$', '.']) {
            return refuse(
                "STATE_STORE_CANNOT_CREATE_COLUMN_FAMILY_WITH_RESERVED_CHARS",
                format!(
                    "Failed to create column family with unsupported starting character and name={name}. Begin the name \
                     with a letter."
                ),
            );
        }
        if self.lock_made()?.specs.iter().any(|spec| spec.name == name) {
            return refuse(
                "STATEFUL_PROCESSOR_DUPLICATE_STATE_VARIABLE_DEFINED",
                format!(
                    "State variable with name {name} has already been defined in the StatefulProcessor. Choose another \
                     name."
                ),
            );
        }
        if ttl.duration_ms < 0 {
            return refuse(
                "STATEFUL_PROCESSOR_TTL_DURATION_MUST_BE_POSITIVE",
                format!(
                    "TTL duration must be greater than zero for State store operation={operation} on state={name}."
                ),
            );
        }
        if ttl.duration_ms > 0 && shared.time_mode != TimeMode::ProcessingTime {
            return refuse(
                "STATEFUL_PROCESSOR_INCORRECT_TIME_MODE_TO_ASSIGN_TTL",
                format!(
                    "Cannot use TTL for state={name} in timeMode={}, use TimeMode.ProcessingTime() instead.",
                    shared.time_mode
                ),
            );
        }
        Ok(shared)
    }

    fn add(&self, variable: Result<Arc<dyn Variable>>, kind: VariableKind) -> Result<()> {
        let variable = variable?;
        let mut made = self.lock_made()?;
        made.specs.push(variable.spec(kind));
        made.variables.push(variable);
        Ok(())
    }
}
