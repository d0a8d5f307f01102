//! Servers that answer as Docker does, and as Docker never does.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixListener,
};

use super::{
    api::{Api, ApiError, escape},
    image::{self, Manifest},
};
use crate::state::tests::Scratch;

const OLD: &str = "HTTP/1.0 400 Bad Request\r\nContent-Type: application/json\r\n\r\n\
    {\"message\":\"client version 1.44 is too new. Maximum supported API version is 1.41\"}\n";
const VERSION: &str = "HTTP/1.0 200 OK\r\n\r\n{\"ApiVersion\":\"1.41\"}";

/// Answers each connection with the next of these texts; a request for a version other than `speaks` gets `no`.
fn server(name: &str, speaks: &'static str, no: &'static str, answers: &'static [&'static str]) -> (Scratch, PathBuf) {
    let scratch = Scratch::new(name);
    let socket = scratch.0.join("socket");
    let listener = UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        let mut answers = answers.iter();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut lines = BufReader::new(&mut stream).lines();
            let asked = lines.next_line().await.unwrap().unwrap();
            while !matches!(lines.next_line().await.unwrap().as_deref(), None | Some("")) {}
            let answer = match asked.strip_prefix(&format!("GET /{speaks}/")) {
                None => no,
                Some(rest) if rest.starts_with("version ") => VERSION,
                Some(_) => answers.next().unwrap(),
            };
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (scratch, socket)
}

#[tokio::test]
async fn answers_are_read_whole_or_line_by_line_whatever_version_docker_speaks() {
    let answers = &["HTTP/1.0 200 OK\r\nA: b\r\n\r\n{\"a\":\n1}", "HTTP/1.0 200 OK\r\n\r\n{\"a\":1}\n{\"a\":2}\n"];
    for (name, version) in [("docker-newest", "v1.49"), ("docker-new", "v1.44"), ("docker-old", "v1.24")] {
        let (_scratch, socket) = server(name, version, OLD, answers);
        let api = Api::find(&socket).await.unwrap();
        assert_eq!(api.get::<Value>("/x").await.unwrap(), json!({"a": 1}));
        let mut lines = api.follow("/x").await.unwrap();
        assert_eq!(lines.next::<Value>().await.unwrap(), Some(json!({"a": 1})));
        assert_eq!(lines.next::<Value>().await.unwrap(), Some(json!({"a": 2})));
        assert_eq!(lines.next::<Value>().await.unwrap(), None);
    }
}

#[tokio::test]
async fn an_unsupported_docker_is_quoted() {
    let (_scratch, socket) = server("docker-future", "v2.0", OLD, &[]);
    let error = Api::find(&socket).await.unwrap_err().to_string();
    assert!(error.contains("400") && error.contains("Maximum supported API version is 1.41"), "{error}");
}

#[tokio::test]
async fn an_invalid_answer_is_an_error_that_shows_it() {
    let answers = &[
        "HTTP/1.0 404 Not Found\r\n\r\n{\"message\":\"No such container: x\"}",
        "HTTP/1.0 500 Oh\r\n\r\nno\x07\njson",
        "",
        "HTTP/1.0 200 OK\r\n\r\n{",
        "SSH-2.0-OpenSSH\r\n\r\n",
    ];
    let (_scratch, socket) = server("docker-odd", "v1.44", OLD, answers);
    let api = Api::find(&socket).await.unwrap();
    let gone = api.get::<Value>("/x").await.unwrap_err();
    assert!(gone.is_not_found(), "{gone}");
    assert_eq!(gone.to_string(), "/x: 404 No such container: x");
    for words in ["/x: 500 no json", "doesn't speak HTTP", "/x is answered with something else", "SSH-2.0"] {
        let error = api.get::<Value>("/x").await.unwrap_err();
        assert!(error.to_string().contains(words) && !error.is_not_found(), "{error}");
    }
    assert!(matches!(Api::find(Path::new("/nonexistent/socket")).await, Err(ApiError::Absent)));
}

#[tokio::test]
async fn an_images_labels_are_found_in_either_form() {
    let answers = &[
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"arm64\",\"Config\":{\"Labels\":{\"mesh.service\":\"shop/db\"}}}",
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"arm64\",\"Config\":{\"Labels\":null}}",
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"arm64\",\"Config\":{}}",
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"arm64\"}",
    ];
    let (_scratch, socket) = server("docker-image", "v1.44", OLD, answers);
    let api = Api::find(&socket).await.unwrap();
    let labels = image::labels(&api, "sha256:a", None).await.unwrap();
    assert_eq!(labels.get("mesh.service").map(String::as_str), Some("shop/db"));
    for _ in 1..answers.len() {
        assert!(image::labels(&api, "sha256:a", None).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn an_image_of_another_platform_is_not_mistaken_for_the_containers() {
    let answers = &[
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"386\"}",
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"linux\",\"Architecture\":\"amd64\"}",
        // Docker 29's answer by older versions of the API if no image fits this machine's platform.
        "HTTP/1.0 200 OK\r\n\r\n{\"Os\":\"\",\"Architecture\":\"\",\"Config\":{\"Hostname\":\"\"}}",
        "HTTP/1.0 200 OK\r\n\r\n{\"Config\":null}",
    ];
    let (_scratch, socket) = server("docker-platform", "v1.44", OLD, answers);
    let api = Api::find(&socket).await.unwrap();
    let manifest = json!({"digest": "sha256:b", "platform": {"os": "linux", "architecture": "386"}});
    let manifest: Manifest = serde_json::from_value(manifest).unwrap();
    assert!(image::labels(&api, "sha256:a", Some(&manifest)).await.unwrap().is_empty());
    for manifest in [Some(&manifest), None, None] {
        let error = image::labels(&api, "sha256:a", manifest).await.unwrap_err();
        assert!(matches!(error, ApiError::OtherPlatform(_)) && !error.is_not_found(), "{error}");
    }
}

#[test]
fn a_query_may_hold_any_character() {
    assert_eq!(escape(r#"{"a":["é"]}"#), "%7B%22a%22%3A%5B%22%C3%A9%22%5D%7D");
}
