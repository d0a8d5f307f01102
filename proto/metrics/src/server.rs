//! A server of a few pages in plain HTTP. Strangers may reach it, so connections are few and short, and each has one
//! request.

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Connections at once. More of them wait in the listener's backlog.
const CONNECTIONS: usize = 16;
/// Connections that may wait in the kernel.
const BACKLOG: u32 = 64;
/// How long a connection may last.
const LASTING: Duration = Duration::from_secs(10);
/// The limit of a request's headers, in bytes and in number.
const HEADERS: (usize, usize) = (8 << 10, 32);
/// The pause after an error of `accept`, because a descriptor may be free again soon.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The answer to a request.
#[derive(Debug, Clone)]
pub struct Page {
    /// The status.
    pub status: StatusCode,
    /// The content's type.
    pub kind: &'static str,
    /// The content.
    pub text: Bytes,
}

impl Page {
    /// A line of plain text.
    #[must_use]
    pub fn line(status: StatusCode, text: &str) -> Self {
        Self { status, kind: "text/plain; charset=utf-8", text: format!("{text}\n").into() }
    }

    /// A page of metrics.
    #[must_use]
    pub const fn metrics(text: Bytes) -> Self {
        Self { status: StatusCode::OK, kind: crate::CONTENT_TYPE, text }
    }

    fn into_response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.text));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.kind));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// The pages that are served.
pub trait Pages: Send + Sync + 'static {
    /// The page at a path; `None` if there is none. What it costs must not grow with the number of requests
    /// ([`crate::EachSecond`]).
    fn page(&self, path: &str) -> impl Future<Output = Option<Page>> + Send;
}

/// Listens at an address.
///
/// # Errors
/// If it is in use, isn't this machine's, or has a privileged port.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves the pages until this is dropped.
pub async fn serve(listener: TcpListener, pages: Arc<impl Pages>) -> Infallible {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return std::future::pending().await };
        match listener.accept().await {
            Ok((stream, peer)) => {
                let pages = Arc::clone(&pages);
                tokio::spawn(async move {
                    if timeout(LASTING, converse(stream, pages)).await.is_err() {
                        debug!(%peer, "a reader of metrics took too long");
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "a connection of a reader of metrics could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, pages: Arc<impl Pages>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let pages = Arc::clone(&pages);
        async move { Ok::<_, Infallible>(answer(&request, &*pages).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(LASTING)
        .keep_alive(false)
        .max_buf_size(HEADERS.0)
        .max_headers(HEADERS.1)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        debug!(%error, "a connection of a reader of metrics ended early");
    }
}

async fn answer<B>(request: &Request<B>, pages: &impl Pages) -> Response<Full<Bytes>> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = Page::line(StatusCode::METHOD_NOT_ALLOWED, "only GET").into_response();
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let page = pages.page(request.uri().path()).await;
    page.unwrap_or_else(|| Page::line(StatusCode::NOT_FOUND, "nothing is at this path")).into_response()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    struct One;

    impl Pages for One {
        async fn page(&self, path: &str) -> Option<Page> {
            (path == "/metrics").then(|| Page::metrics("a 1\n".into()))
        }
    }

    fn started() -> SocketAddr {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, Arc::new(One)));
        address
    }

    async fn say(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_page_is_served_and_nothing_else() {
        let address = started();
        let page = say(address, "GET /metrics?x=1 HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert!(page.starts_with("HTTP/1.1 200 OK") && page.ends_with("\r\n\r\na 1\n"), "{page}");
        assert!(page.contains("content-type: text/plain; version=0.0.4"), "{page}");
        for (request, status) in [
            ("GET / HTTP/1.1\r\nhost: h\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n", "405"),
            ("nonsense\r\n\r\n", "400"),
        ] {
            let answer = say(address, request).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
        }
        let many = format!("GET /metrics HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(HEADERS.0));
        assert!(say(address, &many).await.starts_with("HTTP/1.1 431"), "headers without end");
    }

    /// Those that say nothing keep others out for no longer than a connection may last.
    #[tokio::test(start_paused = true)]
    async fn silent_connections_end() {
        let address = started();
        let mut silent = Vec::new();
        for _ in 0..2 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let page = say(address, "GET /metrics HTTP/1.1\r\nhost: h\r\n\r\n").await;
        assert!(page.ends_with("a 1\n"), "{page}");
    }
}
