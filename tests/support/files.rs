//! What is in a folder, to see whether it has changed.

use std::collections::BTreeMap;
use std::path::Path;

/// Every file below a folder, with its bytes; none where there is no folder.
pub fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        for entry in entries {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.insert(path.to_string_lossy().into_owned(), std::fs::read(&path).expect("a readable file"));
            }
        }
    }
    found
}
