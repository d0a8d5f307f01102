//! Replays the corpora: inputs that once broke a promise, or that reach code which no other input reaches.

use std::{fs, path::Path};

#[test]
fn no_corpus_breaks_a_promise() {
    for (name, run) in mesh_fuzz::TARGETS {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
        let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(!files.is_empty(), "{name} has no corpus");
        for file in files {
            // Printed beforehand, since a stack overflow or an endless loop prints nothing.
            println!("{}", file.display());
            run(&fs::read(&file).unwrap());
        }
    }
}
