use std::os::unix::fs::MetadataExt as _;

use mesh_proto::Revision;

use super::*;
use crate::{
    data::scratch::Scratch,
    store::{
        SqliteStore, Store as _,
        conformance::{draft, put},
    },
};

/// A data directory in use, with two commits.
async fn in_use(scratch: &Scratch) -> (DataDirectory, SqliteStore) {
    let data = DataDirectory::open(&scratch.path().join("data")).unwrap();
    data.write("tls-key.pem", b"key").unwrap();
    data.write("enrol-key", b"other").unwrap();
    let store = SqliteStore::open(&data.file(DATABASE)).await.unwrap();
    store.commit(Revision(0), draft(vec![put(1)])).await.unwrap();
    store.commit(Revision(1), draft(vec![put(2)])).await.unwrap();
    (data, store)
}

#[tokio::test]
async fn a_backup_of_a_running_coordinator_is_private_and_put_back_whole() {
    let scratch = Scratch::new();
    let (data, store) = in_use(&scratch).await;
    let file = scratch.path().join("backup.tar");
    let contents = make(&scratch.path().join("data"), &file).unwrap();
    assert_eq!(contents, Contents { revision: 2, files: vec!["enrol-key".to_owned(), "tls-key.pem".to_owned()] });
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 2, "nothing else is left: the data and the backup");
    // What comes later isn't in it.
    store.commit(Revision(2), draft(vec![put(3)])).await.unwrap();
    let error = make(&scratch.path().join("data"), &file).unwrap_err().to_string();
    assert!(error.contains("exists"), "{error}");
    drop((store, data));

    let new = scratch.path().join("new");
    assert_eq!(restore(&file, &new).unwrap(), contents);
    assert_eq!(fs::read(new.join("tls-key.pem")).unwrap(), b"key");
    assert_eq!(fs::metadata(new.join(DATABASE)).unwrap().mode() & 0o777, 0o600);
    let loaded = SqliteStore::open(&new.join(DATABASE)).await.unwrap().load().await.unwrap();
    assert_eq!((loaded.head.revision, loaded.records.len()), (Revision(2), 2));
    assert_eq!(loaded.head.epoch, None, "all maps begin anew");
}

#[tokio::test]
async fn a_backup_is_put_into_an_empty_directory_only() {
    let scratch = Scratch::new();
    let (data, store) = in_use(&scratch).await;
    let file = scratch.path().join("backup.tar");
    make(&scratch.path().join("data"), &file).unwrap();
    drop((store, data));
    let error = restore(&file, &scratch.path().join("data")).unwrap_err().to_string();
    assert!(error.contains("empty data directory only"), "{error}");
    assert_eq!(fs::read(scratch.path().join("data/tls-key.pem")).unwrap(), b"key");
}

#[test]
fn what_is_no_backup_leaves_the_directory_empty() {
    let scratch = Scratch::new();
    let tar = |entries: &[(&str, &[u8])]| {
        let mut tar = tar::Builder::new(Vec::new());
        for (name, contents) in entries {
            let mut header = header(contents.len() as u64);
            // As a hostile one would say it: the library refuses to.
            let bytes = header.as_old_mut();
            bytes.name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *contents).unwrap();
        }
        tar.into_inner().unwrap()
    };
    let manifest: &[u8] = br#"{"version":1,"program":"0.3.0","revision":1}"#;
    let newer: &[u8] = br#"{"version":2,"program":"9.0.0","revision":1}"#;
    for (contents, words) in [
        (b"nonsense".to_vec(), "no backup"),
        (tar(&[("tls-key.pem", b"key")]), "no backup"),
        (tar(&[(MANIFEST, newer)]), "later version, 9.0.0"),
        (tar(&[(MANIFEST, manifest)]), "no database"),
        (tar(&[(MANIFEST, manifest), ("../../etc/passwd", b"x")]), "no file of a coordinator"),
        (tar(&[(MANIFEST, manifest), ("/etc/passwd", b"x")]), "no file of a coordinator"),
        (tar(&[(MANIFEST, manifest), (".profile", b"x")]), "no file of a coordinator"),
        (tar(&[(MANIFEST, manifest), ("lock", b"x")]), "no file of a coordinator"),
        (tar(&[(MANIFEST, manifest), ("tls-key.pem", b"key"), ("tls-key.pem", b"key")]), "more files"),
    ] {
        let file = scratch.path().join("file");
        fs::write(&file, contents).unwrap();
        let directory = scratch.path().join("data");
        let error = format!("{:#}", restore(&file, &directory).unwrap_err());
        assert!(error.contains(words), "{words}: {error}");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 0, "{words}");
    }
}
