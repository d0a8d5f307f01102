//! A proxy for Docker's socket that records the requests, and can answer like another Docker.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use mesh_runtime_tests::Docker;

/// It answers as long as the test runs.
pub(crate) struct Front {
    socket: PathBuf,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Front {
    /// Accepts requests of this API version only, as Docker 29 does, and passes them to this Docker in its own version.
    pub(crate) fn of(docker: &Docker, version: &'static str) -> Self {
        let its = docker.command(&["version", "--format", "{{.Server.APIVersion}}"]).done().stdout;
        let (its, behind) = (its.trim().to_owned(), docker.socket());
        Self::answering(move |mut asker, request| {
            let Some(rest) = request.strip_prefix(&format!("GET /{version}/")) else {
                let said = "client version is too old. Minimum supported API version is 1.44";
                return write!(asker, "HTTP/1.0 400 Bad Request\r\n\r\n{{\"message\":\"{said}\"}}\n");
            };
            let mut docker = UnixStream::connect(&behind)?;
            write!(docker, "GET /v{its}/{rest}\r\nHost: docker\r\n\r\n")?;
            // Events are passed as long as both sides live.
            let (mut gone, of_docker) = (asker.try_clone()?, docker.try_clone()?);
            thread::spawn(move || {
                let _ = gone.read(&mut [0]);
                of_docker.shutdown(std::net::Shutdown::Both)
            });
            io::copy(&mut docker, &mut asker).map(drop)?;
            asker.shutdown(std::net::Shutdown::Both)
        })
    }

    /// Answers a request by a function of its first line.
    pub(crate) fn answering(answer: impl Fn(UnixStream, &str) -> io::Result<()> + Send + Sync + 'static) -> Self {
        let socket = PathBuf::from("/run/front.sock");
        let listener = UnixListener::bind(&socket).expect("cannot listen");
        let (asked, answer) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(answer));
        let all = Arc::clone(&asked);
        thread::spawn(move || {
            for asker in listener.incoming().map_while(Result::ok) {
                let (all, answer) = (Arc::clone(&all), Arc::clone(&answer));
                thread::spawn(move || {
                    let mut head = BufReader::new(asker.try_clone()?).lines();
                    let first = head.next().transpose()?.unwrap_or_default();
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(first.clone());
                    for line in head {
                        if line?.is_empty() {
                            break;
                        }
                    }
                    answer(asker, &first)
                });
            }
        });
        Self { socket, asked }
    }

    /// Its path.
    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// How many requests had this in their first line.
    pub(crate) fn asked(&self, words: &str) -> usize {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).iter().filter(|line| line.contains(words)).count()
    }
}
