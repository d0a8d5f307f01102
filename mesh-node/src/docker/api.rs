//! As much of HTTP as it takes: one request a connection, by HTTP/1.0, so that what is answered ends with the connection and
//! comes in no chunks.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use nix::unistd::geteuid;
use serde::{Deserialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
    time::timeout,
};

/// The API's versions, in the order in which they are tried: Docker since 28.1 and podman have the first, by which it tells of
/// which platform an image is; Docker since 25 the second, Docker before 29 the third. What is asked for here reads the same by
/// all of them. (Without a version podman has another API.)
const VERSIONS: [&str; 3] = ["v1.49", "v1.44", "v1.24"];
/// The longest line and the longest answer, in octets.
const MAX: u64 = 16 << 20;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How much is shown of what a refusal says, in characters.
const SHOWN: usize = 200;

/// A Docker that answers, and by which version of its API.
#[derive(Debug, Clone)]
pub(super) struct Api {
    socket: PathBuf,
    version: &'static str,
}

/// Why something isn't known of Docker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    /// There is no socket.
    #[error("there is no such socket")]
    Absent,
    /// It is somebody else's.
    #[error(
        "it is answered by a process of user {0}, who is neither root nor the user of this agent: whatever he names would be attached"
    )]
    Stranger(u32),
    /// It says no.
    #[error("{path}: {status} {said}")]
    Refused { path: String, status: u16, said: String },
    /// It can't be reached, breaks off, or takes too long.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The image is there, but not what the container was made from.
    #[error("it doesn't know the image {0} as it is for the container's platform")]
    OtherPlatform(String),
    /// It says something else than was asked for.
    #[error("{path} is answered with something else: {error}")]
    Nonsense { path: String, error: serde_json::Error },
}

/// An answer that goes on and on, a line of JSON at a time.
pub(super) struct Lines {
    path: String,
    stream: BufReader<UnixStream>,
}

/// What a refusal says.
#[derive(Deserialize)]
struct Message {
    message: String,
}

impl Api {
    /// Finds out by which version it is asked, for as long as it is the same Docker.
    ///
    /// # Errors
    /// If there is none, it is somebody else's, or it takes no version that we know.
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

    /// Asks for something, and gives the whole answer.
    ///
    /// # Errors
    /// If there is nobody, he refuses, or what he says makes no sense.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let answer = async {
            let mut body = Vec::new();
            self.request(path).await?.take(MAX).read_to_end(&mut body).await?;
            serde_json::from_slice(&body).map_err(|error| nonsense(path, error))
        };
        timeout(PATIENCE, answer).await.map_err(io::Error::from)?
    }

    /// Asks for something that goes on.
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
        // SO_PEERCRED, unix(7): whoever listens. What he says becomes instances, so it must be somebody who could do that anyway.
        let answers = stream.peer_cred()?.uid();
        if answers != 0 && answers != geteuid().as_raw() {
            return Err(ApiError::Stranger(answers));
        }
        let request = format!("GET /{}{path} HTTP/1.0\r\nHost: docker\r\n\r\n", self.version);
        stream.write_all(request.as_bytes()).await?;
        let mut stream = BufReader::new(stream);
        let first = line(&mut stream).await?;
        let status = status(&first)
            .ok_or_else(|| io::Error::other(format!("it doesn't speak HTTP, but says: {}", shown(&first))))?;
        // An empty line ends the header; nothing at all ends everything.
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
    /// The next line; `None`: that was all.
    ///
    /// # Errors
    /// If the connection breaks, or what comes makes no sense.
    pub(super) async fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ApiError> {
        match line(&mut self.stream).await? {
            text if text.is_empty() => Ok(None),
            text => serde_json::from_str(&text).map(Some).map_err(|error| nonsense(&self.path, error)),
        }
    }
}

impl ApiError {
    /// Whether what was asked for isn't there, rather than not to be known.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: 404, .. })
    }
}

/// For a query: everything that isn't unreserved, as octets (RFC 3986, 2.1).
pub(super) fn escape(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-._~".contains(b);
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

/// HTTP-version SP status-code SP reason-phrase (RFC 9112, 4).
fn status(line: &str) -> Option<u16> {
    line.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.trim().parse().ok()
}

fn nonsense(path: &str, error: serde_json::Error) -> ApiError {
    ApiError::Nonsense { path: path.to_owned(), error }
}

/// As much of it as belongs into a log, on one line.
fn shown(said: &str) -> String {
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(SHOWN).filter(|c| !c.is_control()).collect()
}

/// A line with its end; empty: there is no more.
async fn line(stream: &mut (impl AsyncBufRead + Unpin)) -> io::Result<String> {
    let mut text = String::new();
    stream.take(MAX).read_line(&mut text).await?;
    Ok(text)
}
