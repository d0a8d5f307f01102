//! A minimal HTTP client: one request per connection by HTTP/1.0, so that the answer ends with the connection and isn't chunked.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_process::socket;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

/// The API's versions in the order of attempts. The first one (Docker since 28.1, podman) reports an image's platform; Docker since 25
/// has the second, Docker before 29 the third. The requests of this module have the same answers in all. (Without a version podman
/// has another API.)
const VERSIONS: [&str; 3] = ["v1.49", "v1.44", "v1.24"];
/// The longest line and the longest answer, in bytes.
const MAX: u64 = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much of an error message is logged, in characters.
const SHOWN: usize = 200;

/// A Docker that answers, with the version of its API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    socket: PathBuf,
    version: &'static str,
}

/// Why Docker doesn't answer a request.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("there is no such socket")]
    Absent,
    #[error(
        "it is answered by a process of user {0}, which is neither root nor the user of this agent, and could have any \
         container attached"
    )]
    Stranger(u32),
    #[error("{path}: {status} {said}")]
    Refused { path: String, status: u16, said: String },
    /// The connection fails, breaks, or takes too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("it does not have the image {0} for the container's platform")]
    OtherPlatform(String),
    #[error("{path} is answered with something else: {error}")]
    Nonsense { path: String, error: serde_json::Error },
}

/// An endless answer, one line of JSON at a time.
pub(super) struct Lines {
    path: String,
    stream: BufReader<UnixStream>,
}

/// The body of an error.
#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Api {
    /// Finds a version of the API that the Docker at this socket supports.
    ///
    /// # Errors
    /// If there is no Docker, it runs as another user, or it supports no known version.
    pub(super) async fn find(socket: &Path) -> Result<Self, ApiError> {
        let mut refusals = vec![];
        for version in VERSIONS {
            let api = Self { socket: socket.to_owned(), version };
            match api.get::<serde_json::Value>("/version").await {
                Ok(_) => return Ok(api),
                Err(ApiError::Refused { status: 400, said, .. }) => refusals.push(said),
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::Refused { path: "/version".to_owned(), status: 400, said: refusals.join("; ") })
    }

    /// Sends a request and returns the whole answer.
    ///
    /// # Errors
    /// If the connection fails, Docker refuses, or the answer has another form.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = async {
            let mut body = Vec::new();
            self.request(path).await?.take(MAX).read_to_end(&mut body).await?;
            serde_json::from_slice(&body).map_err(|error| nonsense(path, error))
        };
        timeout(PATIENCE, answer).await.map_err(io::Error::from)?
    }

    /// Sends a request with an endless answer.
    ///
    /// # Errors
    /// As [`Api::get`].
    pub(super) async fn follow(&self, path: &str) -> Result<Lines, ApiError> {
        let stream = timeout(PATIENCE, self.request(path)).await.map_err(io::Error::from)??;
        Ok(Lines { path: path.to_owned(), stream })
    }

    async fn request(&self, path: &str) -> Result<BufReader<UnixStream>, ApiError> {
        let mut stream = UnixStream::connect(&self.socket).await.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => ApiError::Absent,
            _ => ApiError::Io(e),
        })?;
        // SO_PEERCRED, unix(7). The answers decide what is attached, so the process must have the right to attach.
        let answers = stream.peer_cred()?.uid();
        if !socket::is_trusted(answers) {
            return Err(ApiError::Stranger(answers));
        }
        let request = format!("GET /{}{path} HTTP/1.0\r\nHost: docker\r\n\r\n", self.version);
        stream.write_all(request.as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream).await?;
        let status = status(&first)
            .ok_or_else(|| io::Error::other(format!("it doesn't speak HTTP, but says: {}", shown(&first))))?;
        // An empty line ends the header; the end of the stream ends everything.
        while !matches!(line(&mut stream).await?.trim_end(), "") {}
        if status == 200 {
            return Ok(stream);
        }
        let mut body = Vec::new();
        stream.take(MAX).read_to_end(&mut body).await?;
        let said = serde_json::from_slice::<Message>(&body).map(|body| body.message);
        let said = said.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned());
        Err(ApiError::Refused { path: path.to_owned(), status, said: shown(&said) })
    }
}

impl Lines {
    /// The next line; `None`: the answer has ended.
    ///
    /// # Errors
    /// If the connection breaks, or the line has another form.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        match line(&mut self.stream).await? {
            text if text.is_empty() => Ok(None),
            text => serde_json::from_str(&text).map(Some).map_err(|error| nonsense(&self.path, error)),
        }
    }
}

impl ApiError {
    /// Whether the requested object doesn't exist.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// A part of a path, or a value of a query.
pub(super) fn escape(text: &str) -> String {
    mesh_link::percent_encoded(text.as_bytes(), b"")
}

/// HTTP-version SP status-code SP reason-phrase (RFC 9112, 4).
fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.trim().parse().ok()
}

fn nonsense(path: &str, error: serde_json::Error) -> ApiError {
    ApiError::Nonsense { path: path.to_owned(), error }
}

/// The start of a text for the log, on one line.
fn shown(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).filter(|c| !c.is_control()).collect()
}

/// A line with its line break; empty at the end of the stream.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut text = String::new();
    stream.take(MAX).read_line(&mut text).await?;
    Ok(text)
}
