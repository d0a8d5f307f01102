//! Docker's containers, by its own files: it doesn't pass their labels on to the runtime. (To ask it for the container would not
//! do: it holds the container's lock while the runtime works.)

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use mesh_proto::message::Refusal;
use nix::unistd::geteuid;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{image::Image, spec::Spec};
use crate::containers::{Labels, leave_out_the_images, texts};

/// Where Docker keeps its containers, unless it was told otherwise.
const USUAL: &str = "/var/lib/docker/containers";
/// What Docker mounts into a container from the container's own directory; with a shared network, from another one's.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// A container's own file in its directory.
const FILE: &str = "config.v2.json";
/// The largest file that is read, in octets.
pub(super) const MAX: u64 = 16 << 20;

/// A container of Docker's.
#[derive(Debug)]
pub(super) struct Container {
    labels: Labels,
    image: Image,
    /// Docker's directory of containers.
    directory: PathBuf,
    /// Whether nobody else than Docker can have written this.
    believed: Result<(), Refusal>,
}

/// Of a container's file: moby, daemon/container/container.go.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Written {
    #[serde(rename = "ID")]
    id: String,
    config: Value,
    #[serde(flatten)]
    image: Image,
}

impl Container {
    /// The container, if it is one of Docker's.
    pub(super) fn find(spec: &Spec, id: &str) -> Option<Self> {
        // Nothing but digits leads nowhere else.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let usual = Path::new(USUAL).join(id).join(FILE);
        // That place is Docker's alone. What is mounted may come from anywhere: whoever starts the container says from where.
        let mounted = MOUNTED.iter().filter_map(|at| Some(spec.source_of(at)?.parent()?.parent()?.join(id).join(FILE)));
        let mounted = mounted.filter_map(|path| match roots_alone(&path) {
            Ok(path) => Self::read(&path, id, Ok(())),
            Err(refusal) => Self::read(&path, id, Err(refusal)),
        });
        let mut found = Self::read(&usual, id, Ok(())).into_iter().chain(mounted);
        let first = found.next()?;
        Some(if first.believed.is_ok() { first } else { found.find(|next| next.believed.is_ok()).unwrap_or(first) })
    }

    fn read(path: &Path, id: &str, believed: Result<(), Refusal>) -> Option<Self> {
        let Written { id: written, config, image } = read(path)?;
        let (labels, directory) = (texts(config.get("Labels")), path.parent()?.parent()?.to_owned());
        (written == id).then_some(Self { labels, image, directory, believed })
    }

    /// All its labels, those that it has from its image as well.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its labels without those of its image that mean something to us. Docker is asked at one of these sockets if need be.
    ///
    /// # Errors
    /// If the image's labels can't be found out, or the container's own come from somewhere that others write to.
    pub(super) fn labels_of_its_own(self, sockets: &[PathBuf]) -> Result<Labels, Refusal> {
        self.believed?;
        let of_image = self.image.labels(&self.directory, sockets)?;
        let mut labels = self.labels;
        leave_out_the_images(&mut labels, &of_image);
        Ok(labels)
    }
}

/// Reads a file of JSON, if it is there and whole.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&octets(path, MAX)?).ok()
}

/// What is in a file, up to so many octets.
pub(super) fn octets(path: &Path, most: u64) -> Option<Vec<u8>> {
    let mut octets = Vec::new();
    File::open(path).ok()?.take(most).read_to_end(&mut octets).ok()?;
    Some(octets)
}

/// Where a file is, by no way that anybody but root, or the user that we are, can have changed.
///
/// # Errors
/// If anybody else can.
fn roots_alone(path: &Path) -> Result<PathBuf, Refusal> {
    let others = |path: &Path| -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        // In a directory with the sticky bit nobody replaces what isn't his, and whose the next one down is shows by itself.
        let writable = found.mode() & 0o022 != 0 && (found.is_file() || found.mode() & 0o1000 == 0);
        Ok(writable || ![0, geteuid().as_raw()].contains(&found.uid()))
    };
    let refused = |why: &str| {
        Refusal::new(
            format!("{} says that it is one of Docker's containers, but {why}", path.display()),
            "Docker's directory, and all above it, belong to root, and nobody else may write to them",
        )
    };
    let real = path.canonicalize().map_err(|e| refused(&e.to_string()))?;
    for above in real.ancestors() {
        if others(above).map_err(|e| refused(&e.to_string()))? {
            return Err(refused(&format!("others than root may write to {}", above.display())));
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

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

    fn find(docker: &Docker, owner: &str) -> Option<Container> {
        Container::find(&docker.spec(owner), &id())
    }

    fn labels(docker: &Docker, owner: &str) -> Labels {
        find(docker, owner).unwrap().labels_of_its_own(&[]).unwrap()
    }

    #[test]
    fn the_labels_are_the_containers_own() {
        let docker = Docker::new("docker", &json!({"mesh.service": "shop/db", "odd": 1}), &json!(null));
        let expected: Labels = [("mesh.service".to_owned(), "shop/db".to_owned())].into();
        assert_eq!(labels(&docker, &id()), expected);
        assert_eq!(labels(&docker, "another"), expected, "with the network of another container");
        let other = "beef".repeat(16);
        assert!(Container::find(&docker.spec(&id()), &other).is_none(), "the labels of that other are not its own");
        assert!(Container::find(&docker.spec(&id()), "../f00d").is_none());
    }

    #[test]
    fn an_image_does_not_make_its_containers_members() {
        let both = json!({"mesh.service": "shop/db", "mesh.client": "true", "maintainer": "me"});
        let docker = Docker::new("image", &both, &json!({"mesh.service": "shop/db", "maintainer": "me"}));
        let names: Vec<_> = labels(&docker, &id()).into_keys().collect();
        assert_eq!(names, ["maintainer", "mesh.client"]);
        let given = Docker::new("given", &both, &json!({"mesh.service": "shop/app"}));
        assert_eq!(labels(&given, &id())["mesh.service"], "shop/db");
    }

    #[test]
    fn damaged_files_are_no_container() {
        let docker = Docker::new("damaged-docker", &json!({"mesh.service": "shop/db"}), &json!({}));
        fs::write(docker.containers().join(id()).join(FILE), "{").unwrap();
        assert!(find(&docker, &id()).is_none());
    }

    #[test]
    fn what_others_may_write_decides_nothing() {
        let docker = Docker::new("others", &json!({"mesh.service": "shop/db"}), &json!({}));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let file = docker.containers().join(id()).join(FILE);
        for (path, wrong, right) in
            [(docker.0.0.clone(), 0o775, 0o755), (docker.containers(), 0o757, 0o710), (file, 0o666, 0o600)]
        {
            mode(&path, wrong);
            let found = find(&docker, &id()).unwrap();
            assert_eq!(found.labels()["mesh.service"], "shop/db", "it is known what it would be");
            let refusal = found.labels_of_its_own(&[]).unwrap_err();
            assert!(refusal.error.contains(&format!("write to {}", path.display())), "{}", refusal.error);
            mode(&path, right);
        }
        mode(&docker.0.0, 0o1777);
        assert!(find(&docker, &id()).unwrap().believed.is_ok(), "as /tmp, where each keeps his own");
    }

    #[test]
    fn a_link_leads_nobody_past_that() {
        let docker = Docker::new("linked", &json!({"mesh.service": "shop/db"}), &json!({}));
        let elsewhere = Scratch::new("linked-from");
        std::os::unix::fs::symlink(docker.containers(), elsewhere.0.join("containers")).unwrap();
        fs::set_permissions(&docker.0.0, fs::Permissions::from_mode(0o777)).unwrap();
        let source = elsewhere.0.join("containers").join(id()).join("hosts");
        let spec = json!({"mounts": [{"destination": "/etc/hosts", "source": source}]});
        let found = Container::find(&Spec::read(spec.to_string().as_bytes()).unwrap(), &id()).unwrap();
        assert!(found.believed.is_err());
    }
}
