//! Notices that a mount covers or uncovers a hosts file.

use std::{
    collections::{HashMap, HashSet},
    io,
    os::unix::ffi::OsStrExt as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::bell::Bell;
use crate::sys::mounts::Mounts;

/// How many processes' mounts are watched at most: each takes a descriptor. Further files are checked regularly.
const MOST: usize = 4096;
/// How often the mounts are read anyway: the process may have entered another mount namespace.
const ROUND: Duration = Duration::from_secs(60);
/// The shortest pause between two looks at the mounts. It is longer where a look takes long.
const BREATH: Duration = Duration::from_millis(20);
/// The share of one processor that the looks take at most is one in this many.
const SHARE: u32 = 20;

/// Watches over mounts.
#[derive(Debug)]
pub(super) struct MountWatches {
    /// The one of the agent's own mount namespace.
    machine: Mutex<Weak<Machine>>,
    places: Arc<Semaphore>,
}

impl Default for MountWatches {
    fn default() -> Self {
        Self { machine: Mutex::default(), places: Arc::new(Semaphore::new(MOST)) }
    }
}

/// The watch over what covers one path, until dropped.
#[derive(Debug)]
pub(super) enum MountWatch {
    /// As a process sees it.
    Process { task: JoinHandle<()>, _place: OwnedSemaphorePermit },
    /// As the agent sees it.
    Machine { machine: Arc<Machine>, key: u64 },
}

/// One watch for all paths of the machine, whose mounts are many.
#[derive(Debug)]
pub(super) struct Machine {
    bells: Arc<Mutex<Bells>>,
    task: JoinHandle<()>,
}

/// The bells, and the paths for whose mounts they ring.
#[derive(Debug, Default)]
struct Bells {
    last: u64,
    all: HashMap<u64, (String, Arc<Bell>)>,
}

impl MountWatches {
    /// The bell rings when the mounts change by which this path is reached, as a process sees it; `None`: as the agent
    /// does. Within a tokio runtime.
    ///
    /// # Errors
    /// If the process has ended, or too many are watched.
    pub(super) fn watch(&self, process: Option<i32>, path: &Path, bell: &Arc<Bell>) -> io::Result<MountWatch> {
        let path = escaped(path);
        if process.is_none() {
            let machine = self.machine()?;
            let mut bells = lock(&machine.bells);
            bells.last += 1;
            let key = bells.last;
            bells.all.insert(key, (path, Arc::clone(bell)));
            drop(bells);
            return Ok(MountWatch::Machine { machine, key });
        }
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(io::Error::other)?;
        let bells = Bells { last: 0, all: HashMap::from([(0, (path, Arc::clone(bell)))]) };
        let task = follow(process, Arc::new(Mutex::new(bells)))?;
        Ok(MountWatch::Process { task, _place: place })
    }

    fn machine(&self) -> io::Result<Arc<Machine>> {
        let mut known = lock(&self.machine);
        if let Some(machine) = known.upgrade() {
            return Ok(machine);
        }
        let bells = Arc::<Mutex<Bells>>::default();
        let machine = Arc::new(Machine { task: follow(None, Arc::clone(&bells))?, bells });
        *known = Arc::downgrade(&machine);
        Ok(machine)
    }
}

impl Drop for MountWatch {
    fn drop(&mut self) {
        match self {
            Self::Process { task, .. } => task.abort(),
            Self::Machine { machine, key } => drop(lock(&machine.bells).all.remove(key)),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Rings the bells, from now on until the process has ended.
fn follow(process: Option<i32>, bells: Arc<Mutex<Bells>>) -> io::Result<JoinHandle<()>> {
    let mut mounts = Mounts::of(process)?;
    let mut before = relevant(&mounts.read()?, process, &bells);
    Ok(tokio::spawn(async move {
        loop {
            match timeout(ROUND, mounts.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return,
                Err(_) => match Mounts::of(process) {
                    Ok(again) => mounts = again,
                    Err(_) => return,
                },
            }
            let begun = Instant::now();
            let Ok(now) = mounts.read() else { continue };
            let now = relevant(&now, process, &bells);
            ring(&lock(&bells), &before, &now);
            before = now;
            sleep(BREATH.max(begun.elapsed() * SHARE)).await;
        }
    }))
}

/// The lines that are kept to compare. Of the machine's all: paths come and go.
fn relevant(mounts: &str, process: Option<i32>, bells: &Mutex<Bells>) -> HashSet<String> {
    let bells = lock(bells);
    let concerns = |line: &&str| process.is_none() || bells.all.values().any(|(path, _)| is_above(point(line), path));
    mounts.lines().filter(concerns).map(str::to_owned).collect()
}

fn ring(bells: &Bells, before: &HashSet<String>, now: &HashSet<String>) {
    let changed: HashSet<&str> = before.symmetric_difference(now).map(|line| point(line)).collect();
    let concerned = bells.all.values().filter(|(path, _)| changed.iter().any(|point| is_above(point, path)));
    concerned.for_each(|(_, bell)| bell.ring_for_move());
}

/// The mount point of a line.
fn point(line: &str) -> &str {
    line.split(' ').nth(4).unwrap_or_default()
}

/// Whether what is mounted there may cover the path.
fn is_above(point: &str, path: &str) -> bool {
    path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || point == "/")
}

/// A path as mountinfo has it.
fn escaped(path: &Path) -> String {
    let text = String::from_utf8_lossy(path.as_os_str().as_bytes());
    text.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_mounts_on_the_way_to_a_file_concern_it() {
        for point in ["/", "/etc", "/etc/hosts"] {
            assert!(is_above(point, "/etc/hosts"), "{point}");
        }
        for point in ["/etc/host", "/etc/hosts/x", "/run", "/e"] {
            assert!(!is_above(point, "/etc/hosts"), "{point}");
        }
        assert_eq!(escaped(Path::new("/a b\\c")), "/a\\040b\\134c");
    }
}
