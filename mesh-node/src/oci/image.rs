//! The labels of a Docker container's image. Docker copies them to the container, without a mark that tells them from the
//! container's own.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;

use super::{
    OciError, content, go,
    read::{MAX, read_up_to},
};
use crate::{
    containers::Labels,
    docker::{self, Manifest},
};

/// How long Docker may take to describe an image: it needs its memory and a few small files, and no lock that it holds while a
/// container starts (moby, daemon/containerd/image_inspect.go and daemon/images/image_inspect.go).
const PATIENCE: Duration = Duration::from_secs(2);

/// The image in a container's `config.v2.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    /// Its digest; empty for a container without an image.
    #[serde(default, rename = "Image")]
    id: String,
    /// The manifest of its platform, if the image has several.
    #[serde(default, rename = "ImageManifest")]
    manifest: Option<Manifest>,
    /// The storage driver, which is part of the path of the image's description.
    #[serde(default)]
    driver: String,
}

impl Image {
    /// Its labels: from Docker's own image store, beside this directory of containers, or from containerd's; else from Docker at one of
    /// these sockets. (Docker comes last: after a reboot it starts containers before it answers.) The digest ensures that every
    /// source describes the same image.
    ///
    /// # Errors
    /// If no source knows the image.
    pub(super) fn labels(&self, containers: &Path, sockets: &[PathBuf]) -> Result<Labels, OciError> {
        if self.id.is_empty() {
            return Ok(Labels::new());
        }
        let manifest = self.manifest.as_ref().and_then(Manifest::digest).unwrap_or(&self.id);
        let files = self.stored(containers).or_else(|| content::configuration(containers, manifest));
        // Docker itself resolves what is ambiguous.
        if let Some(labels) = files.and_then(|image| go::labels(&image).ok()) {
            return Ok(labels);
        }
        let mut answers = Vec::new();
        for socket in sockets {
            match docker::image_labels(socket, &self.id, self.manifest.as_ref(), PATIENCE) {
                Ok(labels) => return Ok(labels),
                Err(error) => answers.push(format!("{}: {error}", socket.display())),
            }
        }
        Err(OciError::UnknownImage { image: self.id.clone(), answers: answers.join("; ") })
    }

    /// Its configuration in Docker's own store (moby, daemon/internal/image/fs.go).
    fn stored(&self, containers: &Path) -> Option<Vec<u8>> {
        let digest = self.id.strip_prefix("sha256:")?;
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain(digest) || !plain(&self.driver) {
            return None;
        }
        let store = containers.parent()?.join("image").join(&self.driver).join("imagedb/content/sha256");
        read_up_to(&store.join(digest), MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead as _, BufReader, Write as _},
        os::unix::net::UnixListener,
        thread,
    };

    use serde_json::json;

    use super::*;
    use crate::state::tests::Scratch;

    fn image(id: &str) -> Image {
        serde_json::from_value(json!({"Image": id, "Driver": "overlayfs"})).unwrap()
    }

    fn expected() -> Labels {
        [("mesh.service".to_owned(), "shop/db".to_owned())].into()
    }

    /// A server that answers as Docker 29 does, and knows only the image `sha256:abc`.
    fn docker(scratch: &Scratch) -> PathBuf {
        let socket = scratch.0.join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let asked: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
                let path = asked.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default();
                let (version, path) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
                let (status, body) = match path.replace("%3A", ":").as_str() {
                    _ if version < "v1.44" => ("400 Bad Request", json!({"message": "version is too old"})),
                    "version" => ("200 OK", json!({})),
                    path if path.starts_with("images/sha256:abc/json") => {
                        let config = json!({"Labels": expected()});
                        ("200 OK", json!({"Config": config, "Os": "linux", "Architecture": "amd64"}))
                    }
                    _ => ("404 Not Found", json!({"message": "No such image"})),
                };
                let _ = write!(&stream, "HTTP/1.0 {status}\r\n\r\n{body}");
            }
        });
        socket
    }

    #[test]
    fn docker_is_asked_for_an_image_without_a_file() {
        let scratch = Scratch::new("image-asked");
        let sockets = ["/nonexistent/docker.sock".into(), docker(&scratch)];
        let containers = scratch.0.join("containers");
        assert_eq!(image("sha256:abc").labels(&containers, &sockets).unwrap(), expected());
        let store = scratch.0.join("image/overlayfs/imagedb/content/sha256");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("abc"), json!({"config": {"Labels": {"a": "b"}}}).to_string()).unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets).unwrap()["a"], "b", "the file comes first");
        fs::write(store.join("abc"), json!({}).to_string()).unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &[]).unwrap(), Labels::new(), "without a configuration");
        fs::write(store.join("abc"), "{\"config\":{\"labels\":{\"a\":\"b\"}}}").unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets).unwrap(), expected(), "Docker reads it otherwise");
        fs::write(store.join("abc"), "{").unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets).unwrap(), expected(), "a damaged one is none");
    }

    #[test]
    fn an_image_of_containerd_is_known_without_docker() {
        let scratch = Scratch::new("image-content");
        let containers = scratch.0.join("containers");
        let put = |blob| content::tests::put(&containers, &blob);
        let config = put(json!({"config": {"Labels": expected()}}));
        let manifest = put(json!({"config": {"digest": config}}));
        let index = put(json!({"manifests": [{"digest": manifest}]}));
        assert_eq!(image(&manifest).labels(&containers, &[]).unwrap(), expected());
        let of_several = json!({"Image": index, "Driver": "overlayfs", "ImageManifest": {"digest": manifest}});
        let of_several: Image = serde_json::from_value(of_several).unwrap();
        assert_eq!(of_several.labels(&containers, &[]).unwrap(), expected());
        assert!(image(&index).labels(&containers, &[]).is_err(), "which of them it is is not known");
    }

    #[test]
    fn an_image_that_no_source_knows_is_an_error() {
        let scratch = Scratch::new("image-unknown");
        let socket = docker(&scratch);
        let error = |id: &str, sockets: &[PathBuf]| image(id).labels(&scratch.0, sockets).unwrap_err().to_string();
        let unknown = error("sha256:f00", std::slice::from_ref(&socket));
        assert!(unknown.contains("404 No such image") && unknown.contains("docker.sock"), "{unknown}");
        assert!(error("sha256:abc", &["/nonexistent/docker.sock".into()]).contains("/nonexistent/docker.sock: "));
        let other =
            json!({"Image": "sha256:abc", "ImageManifest": {"platform": {"os": "linux", "architecture": "386"}}});
        let other: Image = serde_json::from_value(other).unwrap();
        let refusal = other.labels(&scratch.0, std::slice::from_ref(&socket)).unwrap_err();
        assert!(refusal.to_string().contains("for the container's platform"), "{refusal}");
        assert!(error("../../etc/passwd", &[socket]).contains("../../etc/passwd"));
        assert_eq!(image("").labels(&scratch.0, &[]).unwrap(), Labels::new(), "made from nothing");
    }
}
