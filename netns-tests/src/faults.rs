//! Offloads that the kernel refuses on demand, and clocks that are off: see `netns-tests/faults`, which is loaded before libc
//! into a program under test.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use crate::{Coordinator, Runner, process::program};

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

/// The refusals of the programs that are started on one machine from now on. None at first.
pub struct Faults(File);

impl Faults {
    /// Has `runner` start its agents with such a kernel.
    ///
    /// # Panics
    /// If the library is not where the program under test is.
    #[must_use]
    pub fn of(runner: &mut Runner) -> Self {
        let (this, environment) = Self::beside(runner.state());
        environment.into_iter().for_each(|(name, value)| runner.set_environment(name, value));
        this
    }

    /// Has a coordinator be started with such a clock.
    ///
    /// # Panics
    /// If the library is not where the programs under test are.
    #[must_use]
    pub fn of_coordinator(coordinator: &mut Coordinator) -> Self {
        let (this, environment) = Self::beside(coordinator.data());
        environment.into_iter().for_each(|(name, value)| coordinator.set_environment(name, value));
        this
    }

    fn beside(directory: &Path) -> (Self, [(&'static str, PathBuf); 2]) {
        let path = PathBuf::from(format!("{}.faults", directory.display()));
        fs::write(&path, [0; 5]).expect("a file of five bytes");
        let library = Path::new(&program("MESH_NODE")).with_file_name("libmesh_faults.so");
        assert!(library.exists(), "{} is missing: cargo build -p mesh-faults", library.display());
        let this = Self(File::options().write(true).open(&path).expect("it was just made"));
        (this, [("LD_PRELOAD", library), ("MESH_FAULTS", path)])
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

    /// From now on the programs' wall clock is so many hours ahead, or behind if that is negative.
    ///
    /// # Panics
    /// If that can't be said.
    pub fn set_clock(&self, hours: i8) {
        self.0.write_all_at(&hours.to_le_bytes(), 4).expect("the file");
    }
}
