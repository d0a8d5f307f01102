//! The labels of a Docker container's image. A container has them too, and nothing there says which of its labels are whose.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use mesh_proto::message::Refusal;
use serde::Deserialize;

use super::{
    content,
    docker::{MAX, octets},
    go,
};
use crate::{
    containers::Labels,
    docker::{self, Manifest},
};

/// How long Docker may take to tell of an image: it does so from its memory and a few small files, and without a lock that
/// it holds while a container starts (moby, daemon/containerd/image_inspect.go and daemon/images/image_inspect.go).
const PATIENCE: Duration = Duration::from_secs(2);

/// What a container's `config.v2.json` says of its image.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Image {
    /// Its digest; empty for a container that was made from nothing.
    #[serde(default, rename = "Image")]
    id: String,
    /// Which one, if it is an image of several.
    #[serde(default, rename = "ImageManifest")]
    manifest: Option<Manifest>,
    /// What keeps its layers, which is part of the path to where it is described.
    #[serde(default)]
    driver: String,
}

impl Image {
    /// Its labels: from the files of Docker's own image store, beside this directory of containers, or of containerd's; where it is
    /// in neither, Docker is asked at these sockets. (Not first of all: when it starts, after a reboot for instance, it starts
    /// containers before it answers.) It is the same image whoever knows it, by its digest.
    ///
    /// # Errors
    /// If nobody knows.
    pub(super) fn labels(&self, containers: &Path, sockets: &[PathBuf]) -> Result<Labels, Refusal> {
        if self.id.is_empty() {
            return Ok(Labels::new());
        }
        let manifest = self.manifest.as_ref().and_then(Manifest::digest).unwrap_or(&self.id);
        let files = self.stored(containers).or_else(|| content::configuration(containers, manifest));
        // What could be read in more than one way Docker is asked for: it tells it as it has read it.
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
        Err(Refusal::new(
            format!(
                "Docker can't be asked for the image {}, so nobody knows whether it makes itself a member ({})",
                self.id,
                answers.join("; ")
            ),
            "is the image still there? Where Docker is asked stands in the agent's configuration: [containers] watch = [\"/var/run/docker.sock\"]",
        ))
    }

    /// In Docker's own store: moby, daemon/internal/image/fs.go.
    fn stored(&self, containers: &Path) -> Option<Vec<u8>> {
        let digest = self.id.strip_prefix("sha256:")?;
        let plain = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain(digest) || !plain(&self.driver) {
            return None;
        }
        let store = containers.parent()?.join("image").join(&self.driver).join("imagedb/content/sha256");
        octets(&store.join(digest), MAX)
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

    /// Somebody who speaks Docker's API as version 29 does, and knows the image `sha256:abc` alone.
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
    fn what_is_in_no_file_docker_is_asked_for() {
        let scratch = Scratch::new("image-asked");
        let sockets = ["/nonexistent/docker.sock".into(), docker(&scratch)];
        let containers = scratch.0.join("containers");
        assert_eq!(image("sha256:abc").labels(&containers, &sockets), Ok(expected()));
        let store = scratch.0.join("image/overlayfs/imagedb/content/sha256");
        fs::create_dir_all(&store).unwrap();
        fs::write(store.join("abc"), json!({"config": {"Labels": {"a": "b"}}}).to_string()).unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets).unwrap()["a"], "b", "the file comes first");
        fs::write(store.join("abc"), json!({}).to_string()).unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &[]), Ok(Labels::new()), "without a configuration");
        fs::write(store.join("abc"), "{\"config\":{\"labels\":{\"a\":\"b\"}}}").unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets), Ok(expected()), "Docker reads it otherwise");
        fs::write(store.join("abc"), "{").unwrap();
        assert_eq!(image("sha256:abc").labels(&containers, &sockets), Ok(expected()), "a damaged one is none");
    }

    #[test]
    fn what_containerd_keeps_is_known_without_docker() {
        let scratch = Scratch::new("image-content");
        let containers = scratch.0.join("containers");
        let put = |blob| content::tests::put(&containers, &blob);
        let config = put(json!({"config": {"Labels": expected()}}));
        let manifest = put(json!({"config": {"digest": config}}));
        let index = put(json!({"manifests": [{"digest": manifest}]}));
        assert_eq!(image(&manifest).labels(&containers, &[]), Ok(expected()));
        let of_several = json!({"Image": index, "Driver": "overlayfs", "ImageManifest": {"digest": manifest}});
        let of_several: Image = serde_json::from_value(of_several).unwrap();
        assert_eq!(of_several.labels(&containers, &[]), Ok(expected()));
        assert!(image(&index).labels(&containers, &[]).is_err(), "which of them it is is not known");
    }

    #[test]
    fn where_nobody_knows_nothing_is_taken_for_granted() {
        let scratch = Scratch::new("image-unknown");
        let socket = docker(&scratch);
        let error = |id: &str, sockets: &[PathBuf]| image(id).labels(&scratch.0, sockets).unwrap_err().error;
        let unknown = error("sha256:f00", std::slice::from_ref(&socket));
        assert!(unknown.contains("404 No such image") && unknown.contains("docker.sock"), "{unknown}");
        assert!(error("sha256:abc", &["/nonexistent/docker.sock".into()]).contains("/nonexistent/docker.sock: "));
        let other =
            json!({"Image": "sha256:abc", "ImageManifest": {"platform": {"os": "linux", "architecture": "386"}}});
        let other: Image = serde_json::from_value(other).unwrap();
        let refusal = other.labels(&scratch.0, std::slice::from_ref(&socket)).unwrap_err();
        assert!(refusal.error.contains("as it is for the container's platform"), "{}", refusal.error);
        assert!(error("../../etc/passwd", &[socket]).contains("../../etc/passwd"));
        assert_eq!(image("").labels(&scratch.0, &[]), Ok(Labels::new()), "made from nothing");
    }
}
