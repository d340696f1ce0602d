//! The queries of a session: which run, and waiting for any of them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::select_all;

use crate::error::{Error, Result};
use crate::query::{StreamingQuery, StreamingQueryListener};

/// The queries of a session.
#[derive(Default)]
pub struct StreamingQueryManager {
    inner: Mutex<Managed>,
}

#[derive(Default)]
struct Managed {
    queries: Vec<StreamingQuery>,
    listeners: Vec<Arc<dyn StreamingQueryListener>>,
}

impl StreamingQueryManager {
    /// The queries that have not ended, in the order of their starts.
    pub fn active(&self) -> Vec<StreamingQuery> {
        self.inner().queries.iter().filter(|query| query.is_active()).cloned().collect()
    }

    /// The running query with this id.
    pub fn get(&self, id: &str) -> Option<StreamingQuery> {
        self.active().into_iter().find(|query| query.id() == id)
    }

    /// Waits until any query has ended that was started since the session began or since
    /// [`StreamingQueryManager::reset_terminated`]; a failure is the answer.
    pub async fn await_any_termination(&self) -> Result<()> {
        let queries = self.inner().queries.clone();
        if queries.is_empty() {
            return Ok(());
        }
        // A failure wins over a clean end.
        if let Some(error) = queries.iter().find_map(StreamingQuery::exception) {
            return Err(error);
        }
        let ends = queries.iter().map(|query| Box::pin(query.await_termination()));
        select_all(ends).await.0
    }

    /// Forgets the queries that have ended.
    pub fn reset_terminated(&self) {
        self.inner().queries.retain(StreamingQuery::is_active);
    }

    /// Tells this listener about queries that are started from now on.
    pub fn add_listener(&self, listener: Arc<dyn StreamingQueryListener>) {
        self.inner().listeners.push(listener);
    }

    pub(crate) fn listeners(&self) -> Vec<Arc<dyn StreamingQueryListener>> {
        self.inner().listeners.clone()
    }

    /// Refuses a name that a running query has.
    pub(crate) fn check_name(&self, name: Option<&str>) -> Result<()> {
        let Some(name) = name else { return Ok(()) };
        if self.active().iter().any(|query| query.name() == Some(name)) {
            return Err(Error::analysis(format!(
                "Cannot start query with name {name} as a query with that name is already active in this session. \
                 Stop that query first, or choose another name."
            )));
        }
        Ok(())
    }

    pub(crate) fn add(&self, query: StreamingQuery) {
        self.inner().queries.push(query);
    }

    fn inner(&self) -> MutexGuard<'_, Managed> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
