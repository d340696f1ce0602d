//! All stores of one stateful operator: which there are, where they live, and what is done to all of them at once.

use std::fmt;
use std::sync::Arc;

use arrow::array::Int64Array;
use futures::future::join_all;
use futures::lock::Mutex;

use crate::error::{Error, Result};
use crate::state::evolution::{Evolution, turned};
use crate::state::files::SnapshotPolicy;
use crate::state::hot::HotStateStore;
use crate::state::schema::StateSchema;
use crate::state::store::{CommitReport, MaintainReport, StateStore};
use crate::storage::Folder;

/// The name of a store whose operator has only one: it lives directly in the partition's folder.
pub const DEFAULT_STORE: &str = "default";

/// One store of an operator, in every partition.
#[derive(Clone, Debug, PartialEq)]
pub struct StoreSpec {
    /// Its name; an operator with one store calls it [`DEFAULT_STORE`].
    pub name: String,
    /// Its columns.
    pub schema: StateSchema,
    /// How many of the first key columns `prefix_scan` looks up; 0 where it is not used.
    pub prefix_columns: usize,
    /// The version at which it begins, empty; files of earlier versions are not its own.
    pub since: u64,
}

impl StoreSpec {
    /// The only store of an operator, without a prefix index.
    pub fn default_store(schema: StateSchema) -> Self {
        Self { name: DEFAULT_STORE.into(), schema, prefix_columns: 0, since: 0 }
    }
}

/// A stateful operator of a query, as far as its state is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct OperatorSpec {
    /// 0, 1, 2, .. from the bottom of the plan.
    pub operator_id: u32,
    /// Spark's name: `stateStoreSave` (aggregation), `dedupe`, `symmetricHashJoin`, ...
    pub name: String,
    /// The number of partitions, fixed by the checkpoint.
    pub partitions: u32,
    /// The stores that every partition has.
    pub stores: Vec<StoreSpec>,
    /// What may change of them between runs; `None`: nothing.
    pub evolution: Option<Evolution>,
}

/// Which store of a query it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreIdentity {
    /// The operator.
    pub operator_id: u32,
    /// The partition.
    pub partition: u32,
    /// The store's name.
    pub store_name: String,
}

impl StoreIdentity {
    /// The folder of the store in the checkpoint's folder `state`: `<operator>/<partition>[/<name>]`.
    pub fn folder(&self, state: &Folder) -> Folder {
        let partition = format!("{}/{}", self.operator_id, self.partition);
        match self.store_name.as_str() {
            DEFAULT_STORE => state.child(&partition),
            name => state.child(&format!("{partition}/{name}")),
        }
    }
}

impl fmt::Display for StoreIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.operator_id, self.partition, self.store_name)
    }
}

/// A store that an operator and the engine share: the operator holds the lock while it runs a batch, the engine to
/// commit it. They never want it at the same time.
pub type SharedStore = Arc<Mutex<Box<dyn StateStore>>>;

/// The stores of one operator.
#[derive(Debug)]
pub struct OperatorState {
    spec: OperatorSpec,
    stores: Vec<SharedStore>,
    /// Stores that others begin with, as they were, and the folder `state`.
    turned: Option<(Folder, Vec<StoreSpec>)>,
}

impl OperatorState {
    /// Makes the stores, in memory. `state` is the checkpoint's folder `state`. Nothing is read or written.
    pub fn new(state: &Folder, spec: OperatorSpec, policy: SnapshotPolicy) -> Result<Self> {
        for (at, store) in spec.stores.iter().enumerate() {
            if spec.stores[..at].iter().any(|other| other.name == store.name) || store.name.contains('/') {
                return Err(Error::internal(format!("'{}' cannot name a store of operator {}", store.name, spec.name)));
            }
        }
        let mut stores: Vec<SharedStore> = Vec::new();
        for partition in 0..spec.partitions {
            for store in &spec.stores {
                let identity =
                    StoreIdentity { operator_id: spec.operator_id, partition, store_name: store.name.clone() };
                let store = HotStateStore::new(identity.folder(state), &identity, store, policy)?;
                stores.push(Arc::new(Mutex::new(Box::new(store))));
            }
        }
        Ok(Self { spec, stores, turned: None })
    }

    /// The entries of these stores become the first ones of the stores of the same names.
    pub fn with_turned(self, state: &Folder, stores: Vec<StoreSpec>) -> Self {
        Self { turned: Some((state.clone(), stores)).filter(|(_, stores)| !stores.is_empty()), ..self }
    }

    /// What the operator said about its state.
    pub fn spec(&self) -> &OperatorSpec {
        &self.spec
    }

    /// The store with this name in this partition.
    pub fn store(&self, partition: usize, name: &str) -> Result<SharedStore> {
        let per_partition = self.spec.stores.len();
        (self.spec.stores.iter().position(|store| store.name == name))
            .and_then(|at| self.stores.get(partition * per_partition + at))
            .cloned()
            .ok_or_else(|| {
                let id = self.spec.operator_id;
                Error::internal(format!("operator {id} has no state '{name}' in partition {partition}"))
            })
    }

    /// All stores: partition by partition, in the order of the spec.
    pub fn stores(&self) -> &[SharedStore] {
        &self.stores
    }

    /// Opens a version of all stores.
    pub async fn begin(&self, version: u64) -> Result<()> {
        let begun = self.stores.iter().map(|store| async move { store.lock().await.begin(version).await });
        join_all(begun).await.into_iter().collect::<Result<()>>()?;
        let Some((state, stores)) = &self.turned else { return Ok(()) };
        for old in stores {
            let begins = self.spec.stores.iter().find(|store| store.name == old.name && store.since == version);
            let Some(new) = begins else { continue };
            for partition in 0..self.spec.partitions {
                self.turn(state, old, new, partition, version).await?;
            }
        }
        Ok(())
    }

    /// Stages the entries of a store as it was: they are committed with the batch.
    async fn turn(&self, state: &Folder, old: &StoreSpec, new: &StoreSpec, partition: u32, version: u64) -> Result<()> {
        let identity = StoreIdentity { operator_id: self.spec.operator_id, partition, store_name: old.name.clone() };
        let mut from = HotStateStore::new(identity.folder(state), &identity, old, SnapshotPolicy::default())?;
        from.begin(version).await?;
        let store = self.store(partition as usize, &new.name)?;
        let mut store = store.lock().await;
        let mut cursor = from.scan()?;
        while let Some(rows) = from.next_rows(&mut cursor)? {
            let expiry = Int64Array::from(rows.expiry.clone());
            store.put(&rows.keys, &turned(&rows.values, &new.schema.value)?, Some(&expiry))?;
        }
        Ok(())
    }

    /// Commits all stores, at the same time; a report per store. When one fails, others may have committed: open the
    /// version again with `begin`.
    pub async fn commit(&self) -> Result<Vec<CommitReport>> {
        let committed = self.stores.iter().map(|store| async move { store.lock().await.commit().await });
        join_all(committed).await.into_iter().collect()
    }

    /// Forgets what is staged in all stores.
    pub async fn abort(&self) {
        for store in &self.stores {
            store.lock().await.abort();
        }
    }

    /// Maintains all stores after a commit, one after the other, so that their snapshots are not in memory all at once.
    pub async fn maintain(&self, retain_versions: u64) -> Result<MaintainReport> {
        let mut sum = MaintainReport::default();
        for store in &self.stores {
            let report = store.lock().await.maintain(retain_versions).await?;
            if let Some(bytes) = report.snapshot_bytes {
                *sum.snapshot_bytes.get_or_insert(0) += bytes;
            }
            sum.deleted_files += report.deleted_files;
            sum.problems.extend(report.problems);
        }
        Ok(sum)
    }
}

#[cfg(test)]
mod tests;
