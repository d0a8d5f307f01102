use super::*;

/// A test's own directory, removed at the end of the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let path = env::temp_dir().join(format!("mesh-node-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o777
}

#[test]
fn files_are_private_and_read_back_and_leave_nothing_beside() {
    let scratch = Scratch::new("state");
    let state = StateDir::locate(Some(scratch.0.join("a/b"))).unwrap();
    let _lock = state.take().unwrap();
    assert_eq!(state.read::<Vec<u8>>("x.json").unwrap(), None);
    state.write("x.json", &[1, 2]).unwrap();
    state.write("x.json", &[3]).unwrap();
    assert_eq!(state.read::<Vec<u8>>("x.json").unwrap(), Some(vec![3]));
    assert_eq!((mode(state.path()), mode(&state.path().join("x.json"))), (0o700, 0o600));
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 2, "the lock and the file");
    state.clear(&["x.json", "nothing.json"]).unwrap();
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 1);
    assert!(state.write("x.json", &[4]).is_err(), "a late write changes nothing");
}

/// A value that makes the runner leave while it is being written.
struct Leaves<'a>(&'a StateDir);

impl Serialize for Leaves<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.clear(&["x.json"]).unwrap();
        serializer.serialize_unit()
    }
}

#[test]
fn a_write_during_leaving_restores_nothing() {
    let scratch = Scratch::new("leaves");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    state.write("x.json", &1).unwrap();
    state.write("x.json", &Leaves(&state)).unwrap_err();
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
    // Another file, which doesn't exist yet.
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    state.write("y.json", &Leaves(&state)).unwrap_err();
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}

#[test]
fn a_damaged_file_is_named_and_not_quoted() {
    let scratch = Scratch::new("damaged");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    fs::write(scratch.0.join("x.json"), "{\"private_key\": sesame}").unwrap();
    let error = state.read::<Vec<u8>>("x.json").unwrap_err().to_string();
    assert!(error.contains("x.json is damaged") && !error.contains("sesame"), "{error}");
}

#[test]
fn one_agent_at_a_time() {
    let scratch = Scratch::new("lock");
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    let lock = state.take().unwrap();
    let error = state.take().unwrap_err();
    assert!(matches!(error, StateError::Taken { .. }), "{error}");
    drop(lock);
    state.take().unwrap();
}

#[test]
fn a_directory_with_other_files_is_refused() {
    let scratch = Scratch::new("shared");
    let open = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&scratch.0, open.clone()).unwrap();
    let state = StateDir::locate(Some(scratch.0.clone())).unwrap();
    fs::write(scratch.0.join("thesis.tex"), "").unwrap();
    assert!(state.take().unwrap_err().to_string().contains("holds other things"));
    assert_eq!(mode(&scratch.0), 0o755);
    fs::remove_file(scratch.0.join("thesis.tex")).unwrap();
    drop(state.take().unwrap());
    assert_eq!(mode(&scratch.0), 0o700, "an empty one is made private");
    state.write("identity.json", &1).unwrap();
    fs::set_permissions(&scratch.0, open).unwrap();
    state.take().unwrap();
    assert_eq!(mode(&scratch.0), 0o700, "our own is made private again");
}

#[test]
fn the_path_of_the_socket_has_a_limit() {
    let fits = format!("/{}", "x".repeat(directory::MAX_SOCKET_PATH - "//agent.sock".len()));
    StateDir::locate(Some(fits.clone().into())).unwrap();
    let error = StateDir::locate(Some(format!("{fits}x").into())).unwrap_err();
    assert!(error.to_string().contains("108 bytes") && error.hint().unwrap().contains("--state"), "{error}");
}
