//! What somebody outside the process does to the world's disk and object store, and sees there: one view of both.
//!
//! A file is named by its path relative to the world's home, or by its location in the object store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use wavetank_engine::environment::Clock;
use wavetank_engine::storage::Posix;

use crate::blob::SimBlob;
use crate::clock::EPOCH_US;
use crate::world::{HOME, World};

/// The object by which a folder of the object store is there before anything is in it, as some tools make them.
const FOLDER_MARK: &str = ".keep";

impl World {
    /// Every file that can be seen now.
    pub fn files(&self) -> BTreeMap<String, Bytes> {
        below_home(self.disk().files().into_iter().chain(self.blob().files()))
    }

    /// Every file that a power cut would leave.
    pub fn durable_files(&self) -> BTreeMap<String, Bytes> {
        below_home(self.disk().durable_files().into_iter().chain(self.blob().files()))
    }

    /// The newest content that files of logs and source logs ever had, whatever became of them.
    pub fn history(&self) -> BTreeMap<String, Bytes> {
        let both = self.disk().history().into_iter().chain(self.blob().history());
        below_home(both.map(|(path, data)| (path, Some(data))))
    }

    /// A number that changes whenever a file may have changed, or what is durable of it.
    pub fn version(&self) -> u64 {
        self.disk().version() + self.blob().version()
    }

    /// A digest of every file, with names and contents.
    pub fn digest(&self) -> u64 {
        self.disk().digest() ^ self.blob().digest()
    }

    /// Makes the folder that a file will be in.
    pub fn make_folder(&self, file: &str) {
        match SimBlob::key(file) {
            Some(key) => {
                let folder = key.rsplit_once('/').map_or("", |(folder, _)| folder);
                self.blob().put(&format!("{folder}/{FOLDER_MARK}"), Bytes::new(), self.clock().now_us());
            }
            None => self.make_dirs(&format!("{HOME}/{file}")),
        }
    }

    /// A file appears, whole and durable; one that is there is replaced.
    pub fn drop_file(&self, file: &str, data: Bytes) {
        if let Some(key) = SimBlob::key(file) {
            return self.blob().put(key, data, self.clock().now_us());
        }
        let (path, outside) = (format!("{HOME}/{file}"), self.disk().outside());
        outside.write(path.as_ref(), &data).expect("the world outside has room");
        outside.fsync_file(path.as_ref()).expect("the file was just written");
        self.make_dirs(&path);
    }

    /// A file goes away; it may be gone already.
    pub fn remove_file(&self, file: &str) {
        match SimBlob::key(file) {
            Some(key) => self.blob().delete(key),
            None => drop(self.disk().outside().unlink(format!("{HOME}/{file}").as_ref())),
        }
    }

    /// A file that is there is dated so many milliseconds after the world's beginning.
    pub fn date_file(&self, file: &str, modified_ms: i64) {
        let modified_us = EPOCH_US + modified_ms * 1000;
        match SimBlob::key(file) {
            Some(key) => self.blob().date(key, modified_us),
            None => self.disk().date(format!("{HOME}/{file}").as_ref(), modified_us),
        }
    }

    /// Does something to the world some time later, whatever became of the process.
    pub fn later(self: &Arc<Self>, ms: u64, act: impl FnOnce(&Self) + Send + 'static) {
        // The clock is a part of the world, and must not keep it alive.
        let world = Arc::downgrade(self);
        let at_us = self.clock().now_us().saturating_add_unsigned(ms * 1000);
        self.clock().at(at_us, move || {
            if let Some(world) = world.upgrade() {
                act(&world);
            }
        });
    }

    /// The process ends in peace: what planted bugs have put off is done.
    pub(crate) fn do_deferred(&self) {
        self.disk().do_deferred();
        self.blob().do_deferred();
    }

    /// Makes the directories above a path, and their names and the path's own durable.
    fn make_dirs(&self, path: &str) {
        let outside = self.disk().outside();
        let dirs: Vec<&Path> = Path::new(path).ancestors().skip(1).collect();
        for dir in dirs.iter().rev() {
            // Most are there already.
            let _ = outside.mkdir(dir);
        }
        for dir in dirs {
            outside.fsync_dir(dir).expect("the directories were just made");
        }
    }
}

fn below_home(files: impl Iterator<Item = (String, Option<Bytes>)>) -> BTreeMap<String, Bytes> {
    let home = format!("{HOME}/");
    let named = files.filter_map(|(path, data)| {
        let name = match SimBlob::key(&path) {
            Some(_) => path,
            None => path.strip_prefix(&home)?.to_owned(),
        };
        Some((name, data?))
    });
    named.collect()
}
