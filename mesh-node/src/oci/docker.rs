//! Labels of Docker's containers, which it doesn't pass on to the runtime: they are in its own files. (To ask Docker itself
//! would not do: it holds the container's lock while the runtime works.)

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use serde_json::Value;

use super::spec::{Spec, texts};
use crate::containers::{Labels, leave_out_the_images};

/// Where Docker keeps its containers, unless it was told otherwise.
const USUAL: &str = "/var/lib/docker/containers";
/// What Docker mounts into a container from the container's own directory; with a shared network, from another one's.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// The largest file that is read, in octets.
const MAX: u64 = 16 << 20;

/// Of a container's `config.v2.json`: moby, container/container.go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    #[serde(rename = "ID")]
    id: String,
    config: Value,
    image: Option<String>,
    driver: Option<String>,
}

/// The labels of the container, if it is one of Docker's. Those of mesh count only if the container was given them.
pub(super) fn labels(spec: &Spec, id: &str) -> Labels {
    // Nothing but digits leads nowhere else.
    if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Labels::new();
    }
    let mounted = MOUNTED.iter().filter_map(|at| Some(spec.source_of(at)?.parent()?.parent()?.to_owned()));
    // The usual place first: what is mounted may be a directory that others write to as well.
    let found = [PathBuf::from(USUAL)].into_iter().chain(mounted).find_map(|containers| {
        let container: Container = read(&containers.join(id).join("config.v2.json"))?;
        (container.id == id).then_some((container, containers))
    });
    let Some((container, containers)) = found else { return Labels::new() };
    let mut labels = texts(container.config.get("Labels"));
    let of_image = image_labels(&container, &containers);
    leave_out_the_images(&mut labels, &of_image);
    labels
}

/// The labels of the container's image, where Docker's own image store holds it: moby, image/fs.go.
fn image_labels(container: &Container, containers: &Path) -> Labels {
    let read = || {
        let digest = container.image.as_deref()?.strip_prefix("sha256:")?;
        let driver = container.driver.as_deref()?;
        let plain = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        if !plain(digest) || !plain(driver) {
            return None;
        }
        let store = containers.parent()?.join("image").join(driver).join("imagedb/content/sha256");
        let image: Value = read(&store.join(digest))?;
        Some(texts(image.get("config")?.get("Labels")))
    };
    read().unwrap_or_default()
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Option<T> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX).read_to_end(&mut text).ok()?;
    serde_json::from_slice(&text).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;
    use crate::state::tests::Scratch;

    /// Docker's directory, with one container of one image.
    struct Docker(Scratch);

    fn id() -> String {
        "f00d".repeat(16)
    }

    impl Docker {
        fn new(name: &str, container: &Value, image: &Value) -> Self {
            let docker = Self(Scratch::new(name));
            let (of_container, of_images) = (docker.containers().join(id()), "image/overlay2/imagedb/content/sha256");
            let of_images = docker.0.0.join(of_images);
            fs::create_dir_all(&of_container).unwrap();
            fs::create_dir_all(&of_images).unwrap();
            let config =
                json!({"ID": id(), "Config": {"Labels": container}, "Image": "sha256:abc", "Driver": "overlay2"});
            fs::write(of_container.join("config.v2.json"), config.to_string()).unwrap();
            fs::write(of_images.join("abc"), json!({"config": {"Labels": image}}).to_string()).unwrap();
            docker
        }

        fn containers(&self) -> PathBuf {
            self.0.0.join("containers")
        }

        /// A container whose hosts file is that of `owner`.
        fn spec(&self, owner: &str) -> Spec {
            let source = self.containers().join(owner).join("hosts");
            let spec = json!({"mounts": [{"destination": "/etc/hosts", "source": source}]});
            Spec::read(spec.to_string().as_bytes()).unwrap()
        }
    }

    #[test]
    fn the_labels_are_the_containers_own() {
        let docker = Docker::new("docker", &json!({"mesh.service": "shop/db", "odd": 1}), &json!(null));
        let expected: Labels = [("mesh.service".to_owned(), "shop/db".to_owned())].into();
        assert_eq!(labels(&docker.spec(&id()), &id()), expected);
        assert_eq!(labels(&docker.spec("another"), &id()), expected, "with the network of another container");
        let other = "beef".repeat(16);
        assert_eq!(labels(&docker.spec(&id()), &other), Labels::new(), "the labels of that other are not its own");
        assert_eq!(labels(&docker.spec(&id()), "../f00d"), Labels::new());
    }

    #[test]
    fn an_image_does_not_make_its_containers_members() {
        let both = json!({"mesh.service": "shop/db", "mesh.client": "true", "maintainer": "me"});
        let docker = Docker::new("image", &both, &json!({"mesh.service": "shop/db", "maintainer": "me"}));
        let names: Vec<_> = labels(&docker.spec(&id()), &id()).into_keys().collect();
        assert_eq!(names, ["maintainer", "mesh.client"]);
        let given = Docker::new("given", &both, &json!({"mesh.service": "shop/app"}));
        assert_eq!(labels(&given.spec(&id()), &id())["mesh.service"], "shop/db");
    }

    #[test]
    fn damaged_files_are_no_labels() {
        let docker = Docker::new("damaged-docker", &json!({"mesh.service": "shop/db"}), &json!({}));
        fs::write(docker.containers().join(id()).join("config.v2.json"), "{").unwrap();
        assert_eq!(labels(&docker.spec(&id()), &id()), Labels::new());
    }
}
