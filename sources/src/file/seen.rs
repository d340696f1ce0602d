//! Which files a stream has seen, and how long it remembers them.

use std::collections::HashMap;

use wavetank_engine::planted::planted;

/// Files seen, by URI or by name, with the time of their last change when they were seen.
///
/// A file is new when nobody remembers it and it is not older than everything that was forgotten. What is forgotten is
/// older than the newest file seen by more than the age; the clock has no say in it (`spec/06`, section 1).
#[derive(Debug)]
pub(crate) struct SeenFiles {
    times_ms: HashMap<String, i64>,
    newest_ms: i64,
    forgotten_before_ms: i64,
    max_age_ms: i64,
    file_name_only: bool,
}

impl SeenFiles {
    pub(crate) fn new(max_age_ms: i64, file_name_only: bool) -> Self {
        Self { times_ms: HashMap::new(), newest_ms: 0, forgotten_before_ms: 0, max_age_ms, file_name_only }
    }

    fn key<'a>(&self, uri: &'a str) -> &'a str {
        match uri.rsplit_once('/') {
            Some((_, name)) if self.file_name_only => name,
            _ => uri,
        }
    }

    pub(crate) fn is_new(&self, uri: &str, changed_ms: i64) -> bool {
        if planted("equal-times-are-one-file") && self.times_ms.values().any(|known_ms| *known_ms == changed_ms)
            || planted("late-files-are-lost") && changed_ms < self.newest_ms
        {
            return false;
        }
        if planted("a-file-made-again-is-read-again") && self.times_ms.get(self.key(uri)) != Some(&changed_ms) {
            return true;
        }
        changed_ms >= self.forgotten_before_ms && !self.times_ms.contains_key(self.key(uri))
    }

    pub(crate) fn add(&mut self, uri: &str, changed_ms: i64) {
        self.times_ms.insert(self.key(uri).to_string(), changed_ms);
        self.newest_ms = self.newest_ms.max(changed_ms);
    }

    /// Forgets what is too old.
    pub(crate) fn purge(&mut self) {
        let before_ms = self.newest_ms.saturating_sub(self.max_age_ms);
        // Nothing can have become older since the last time.
        if before_ms > self.forgotten_before_ms {
            self.times_ms.retain(|_, changed_ms| *changed_ms >= before_ms);
        }
        self.forgotten_before_ms = before_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_old_is_forgotten_and_not_taken_again() {
        let mut seen = SeenFiles::new(100, false);
        assert!(seen.is_new("a", 5), "before the first purge everything is new");
        seen.add("a", 5);
        seen.add("b", 200);
        assert!(!seen.is_new("b", 999), "a rewritten file is not read again");
        seen.purge();
        assert!(!seen.is_new("a", 5) && !seen.is_new("c", 99), "older than 200 - 100");
        assert!(seen.is_new("c", 100));
        assert!(seen.is_new("a", 150), "forgotten and rewritten");
        assert!(!seen.is_new("b", 200));
    }

    #[test]
    fn names_alone_can_tell_files_apart() {
        let mut seen = SeenFiles::new(100, true);
        seen.add("file:///x/a.json", 1);
        assert!(!seen.is_new("file:///y/a.json", 1));
        assert!(seen.is_new("file:///x/b.json", 1));
    }

    #[test]
    fn an_endless_age_forgets_nothing() {
        let mut seen = SeenFiles::new(i64::MAX, false);
        seen.add("a", 1);
        seen.purge();
        assert!(seen.is_new("b", 0) && !seen.is_new("a", 0));
    }
}
