//! Offloads that the kernel refuses, on demand: see `netns-tests/faults`, which is loaded before libc into an agent.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{Runner, process::program};

/// What an agent's kernel may refuse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offload {
    /// Batches of datagrams on the way out (`UDP_SEGMENT`).
    UdpGso = 0,
    /// Batches of datagrams on the way in (`UDP_GRO`), when they are asked for.
    UdpGro = 1,
    /// Super-packets from and to a TUN (`TUNSETOFFLOAD`), when they are asked for.
    TunOffloads = 2,
    /// Each super-packet that is written to a TUN.
    TunGso = 3,
}

/// The refusals of the agents that one runner starts from now on. None at first.
pub struct Faults(File);

impl Faults {
    /// Has `runner` start its agents with such a kernel.
    ///
    /// # Panics
    /// If the library is not where the program under test is.
    #[must_use]
    pub fn of(runner: &mut Runner) -> Self {
        let path = PathBuf::from(format!("{}.faults", runner.state().display()));
        fs::write(&path, [0; 5]).expect("a file of five bytes");
        let library = Path::new(&program("MESH_NODE")).with_file_name("libmesh_faults.so");
        assert!(library.exists(), "{} is missing: cargo build -p mesh-faults", library.display());
        runner.set_environment("LD_PRELOAD", &library);
        runner.set_environment("MESH_FAULTS", &path);
        Self(File::options().write(true).open(path).expect("it was just made"))
    }

    /// From now on it is refused with this errno.
    ///
    /// # Panics
    /// If that can't be said.
    pub fn refuse(&self, offload: Offload, errno: i32) {
        let byte = u8::try_from(errno).expect("an errno");
        self.0.write_all_at(&[byte], offload as u64).expect("the file");
    }

    /// From now on it works.
    pub fn allow(&self, offload: Offload) {
        self.refuse(offload, 0);
    }

    /// From now on the agents' wall clock is so many hours ahead, or behind if that is negative.
    ///
    /// # Panics
    /// If that can't be said.
    pub fn set_clock(&self, hours: i8) {
        self.0.write_all_at(&hours.to_le_bytes(), 4).expect("the file");
    }
}
