//! Random batches, commits, aborts, crashes and reopenings, compared with a list that is searched from end to end.

use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

type ModelKey = (&'static str, i64);

/// One version: entries in order.
#[derive(Clone, Debug, Default)]
struct Model {
    /// Committed keys in order of first commit, then this batch's new keys in order of first touch.
    order: Vec<ModelKey>,
    entries: Vec<(ModelKey, i64, Option<i64>)>,
}

impl Model {
    fn touch(&mut self, key: ModelKey) {
        if !self.order.contains(&key) {
            self.order.push(key);
        }
    }

    fn put(&mut self, (key, value, expiry): Entry) {
        self.touch(key);
        self.entries.retain(|(other, _, _)| *other != key);
        self.entries.push((key, value, expiry));
    }

    fn remove(&mut self, key: ModelKey) -> bool {
        let before = self.entries.len();
        self.entries.retain(|(other, _, _)| *other != key);
        self.entries.len() < before
    }

    fn get(&self, key: ModelKey) -> Option<i64> {
        self.entries.iter().find(|(other, _, _)| *other == key).map(|(_, value, _)| *value)
    }

    fn rows(&self, wanted: impl Fn(&(ModelKey, i64, Option<i64>)) -> bool) -> Vec<Row> {
        let entry = |key| self.entries.iter().find(|(other, _, _)| *other == key).copied();
        let entries = self.order.iter().filter_map(|key| entry(*key)).filter(|entry| wanted(entry));
        entries.map(|(key, value, expiry)| row(key, value, expiry)).collect()
    }

    fn due(&self, until: i64) -> Vec<Row> {
        let mut rows = self.rows(|(_, _, expiry)| expiry.is_some_and(|expiry| expiry <= until));
        rows.sort_by(|a, b| (a.3, &a.0, a.1).cmp(&(b.3, &b.0, b.1)));
        rows
    }

    fn members(&self, word: &str) -> Vec<Row> {
        let mut rows = self.rows(|((other, _), _, _)| *other == word);
        rows.sort_by_key(|row| row.1);
        rows
    }

    fn commit(&mut self) {
        let entries = &self.entries;
        self.order.retain(|key| entries.iter().any(|(other, _, _)| other == key));
    }
}

const WORDS: [&str; 4] = ["", "a", "b", "a word that does not fit into one block of the row format of arrow"];
const RETAIN: u64 = 4;

fn any_key(rng: &mut ChaCha8Rng) -> ModelKey {
    (WORDS.choose(rng).unwrap(), rng.random_range(-3..12))
}

fn any_entry(rng: &mut ChaCha8Rng) -> Entry {
    let expiry = rng.random_bool(0.7).then(|| rng.random_range(0..40));
    (any_key(rng), rng.random_range(0..1_000), expiry)
}

fn some<T>(rng: &mut ChaCha8Rng, any: fn(&mut ChaCha8Rng) -> T) -> Vec<T> {
    (0..rng.random_range(0..8)).map(|_| any(rng)).collect()
}

fn change(rng: &mut ChaCha8Rng, store: &mut dyn StateStore, model: &mut Model) {
    match rng.random_range(0..5) {
        0 | 1 => {
            let entries = some(rng, any_entry);
            put(store, &entries);
            entries.into_iter().for_each(|entry| model.put(entry));
        }
        2 => {
            let keys = some(rng, any_key);
            let removed = keys.iter().filter(|key| model.remove(**key)).count();
            assert_eq!(store.remove(&key_columns(&keys)).unwrap(), removed);
        }
        3 => {
            let keys = some(rng, any_key);
            let reserved = store.reserve(&key_columns(&keys)).unwrap();
            keys.iter().for_each(|key| model.touch(*key));
            let used = rng.random_range(0..=keys.len());
            let values = Int64Array::from_iter_values(0..used as i64);
            store.put_slots(&reserved.slots[..used], &[Arc::new(values)], None).unwrap();
            keys[..used].iter().zip(0..).for_each(|(key, value)| model.put((*key, value, None)));
        }
        _ => {
            let until = rng.random_range(0..20);
            let due = model.due(until);
            let evicted = store.evict(Until::AtOrBefore(until)).unwrap();
            assert_eq!(read(store, evicted), due);
            for (word, n, _, _) in due {
                model.entries.retain(|((w, m), _, _)| (*w, *m) != (word.as_str(), n));
            }
        }
    }
}

fn compare(rng: &mut ChaCha8Rng, store: &dyn StateStore, model: &Model) {
    assert_eq!(store.rows_total(), model.entries.len() as u64);
    assert_eq!(scan(store), model.rows(|_| true));
    assert_eq!(read(store, store.without_expiry().unwrap()), model.rows(|(_, _, expiry)| expiry.is_none()));
    let keys = some(rng, any_key);
    assert_eq!(get(store, &keys), keys.iter().map(|key| model.get(*key)).collect::<Vec<_>>());
    let until = rng.random_range(0..40);
    assert_eq!(read(store, store.expired(Until::AtOrBefore(until)).unwrap()), model.due(until));
    assert_eq!(read(store, store.expired(Until::Before(until)).unwrap()), model.due(until - 1));
    let word = *WORDS.choose(rng).unwrap();
    let matches = store.prefix_scan(&key_columns(&[(word, 0)])[..1]).unwrap();
    assert_eq!(read(store, matches.cursor), model.members(word));
}

/// What a crash may leave of the next version: nothing, a torn or empty file, or a whole one that was not the last.
async fn crash(rng: &mut ChaCha8Rng, folder: &Folder, store: &mut dyn StateStore, version: u64) {
    let next = version + 1;
    match rng.random_range(0..4) {
        0 => (),
        1 => folder.put(&format!("{next}.delta"), vec![7; rng.random_range(0..200)].into()).await.unwrap(),
        2 => folder.put(&format!("{next}.snapshot"), bytes::Bytes::new()).await.unwrap(),
        _ => {
            let mut forgotten = Model::of(store);
            change(rng, store, &mut forgotten);
            store.commit().await.unwrap();
            store.maintain(RETAIN).await.unwrap();
        }
    }
}

impl Model {
    /// A model of what a store holds, for changes that a crash will undo.
    fn of(store: &dyn StateStore) -> Self {
        let mut model = Self::default();
        for (word, n, value, expiry) in scan(store) {
            let word = WORDS.iter().find(|known| **known == word).unwrap();
            model.put(((*word, n), value.unwrap(), expiry));
        }
        model
    }
}

async fn run(seed: u64) {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let folder = memory();
    let mut store = stores(&folder).remove(0);
    let mut versions = vec![Model::default()];
    let mut oldest = 0;
    for _ in 0..60 {
        let version = versions.len() as u64 - 1;
        store.begin(version).await.unwrap();
        let mut model = versions[version as usize].clone();
        compare(&mut rng, &*store, &model);
        for _ in 0..rng.random_range(0..5) {
            change(&mut rng, &mut *store, &mut model);
            compare(&mut rng, &*store, &model);
        }
        match rng.random_range(0..10) {
            0..6 => {
                store.commit().await.unwrap();
                model.commit();
                compare(&mut rng, &*store, &model);
                versions.push(model);
                if rng.random_bool(0.8) {
                    store.maintain(RETAIN).await.unwrap();
                    oldest = oldest.max((version + 1).saturating_sub(RETAIN));
                }
            }
            6 => store.abort(),
            7 => {
                store.begin(version).await.unwrap();
                crash(&mut rng, &folder, &mut *store, version).await;
                oldest = oldest.max((version + 1).saturating_sub(RETAIN));
                store = stores(&folder).remove(0);
            }
            8 => store = stores(&folder).remove(0),
            _ => {
                // Back to an earlier version: what came after it is forgotten and will be written anew.
                versions.truncate(rng.random_range(oldest.min(version)..=version) as usize + 1);
                if rng.random_bool(0.5) {
                    store = stores(&folder).remove(0);
                }
            }
        }
    }
}

#[tokio::test]
async fn random_batches_agree_with_a_list() {
    for seed in 0..25 {
        eprintln!("seed {seed}: run({seed}) of state::contract::model replays it");
        run(seed).await;
    }
}
