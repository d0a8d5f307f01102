//! Reads Docker's containers from its own files, because Docker doesn't pass labels to the runtime. (Its API can't help here: it holds
//! the container's lock while the runtime works.)

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use nix::unistd::geteuid;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

use super::{
    OciError,
    error::NotRoots,
    image::Image,
    read::{MAX, read_up_to},
    spec::Spec,
};
use crate::containers::{Labels, leave_out_the_images, texts};

/// Docker's default directory of containers.
const USUAL: &str = "/var/lib/docker/containers";
/// Files that Docker mounts into a container from the container's directory or, with a shared network, from another container's.
const MOUNTED: [&str; 3] = ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"];
/// The description in a container's directory.
const FILE: &str = "config.v2.json";

/// One of Docker's containers.
#[derive(Debug)]
pub(super) struct Container {
    labels: Labels,
    image: Image,
    /// Docker's directory of containers.
    directory: PathBuf,
    /// An error if a user other than root could have written this.
    believed: Result<(), OciError>,
}

/// Fields of a container's description (moby, daemon/container/container.go).
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
    /// Finds the container, if it is one of Docker's.
    pub(super) fn find(spec: &Spec, id: &str) -> Option<Self> {
        // Digits can't form a path to another place.
        if id.len() != 64 || !id.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let usual = Path::new(USUAL).join(id).join(FILE);
        // Only Docker writes to the usual place. A mount's source is chosen by the user who starts the container.
        let mounted = MOUNTED.iter().filter_map(|at| Some(spec.source_of(at)?.parent()?.parent()?.join(id).join(FILE)));
        let mounted = mounted.filter_map(|path| match roots_alone(&path) {
            Ok(path) => Self::read(&path, id, Ok(())),
            Err(error) => Self::read(&path, id, Err(error)),
        });
        let mut found = Self::read(&usual, id, Ok(())).into_iter().chain(mounted);
        let first = found.next()?;
        Some(if first.believed.is_ok() { first } else { found.find(|next| next.believed.is_ok()).unwrap_or(first) })
    }

    fn read(path: &Path, id: &str, believed: Result<(), OciError>) -> Option<Self> {
        let Written { id: written, config, image } = read(path)?;
        let (labels, directory) = (texts(config.get("Labels")), path.parent()?.parent()?.to_owned());
        (written == id).then_some(Self { labels, image, directory, believed })
    }

    /// All its labels, those of its image included.
    pub(super) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// Its labels without those of its image that concern membership. Docker is asked at these sockets if its files don't suffice.
    ///
    /// # Errors
    /// If the image's labels can't be determined, or other users may write to the container's description.
    pub(super) fn labels_of_its_own(self, sockets: &[PathBuf]) -> Result<Labels, OciError> {
        self.believed?;
        let of_image = self.image.labels(&self.directory, sockets)?;
        let mut labels = self.labels;
        leave_out_the_images(&mut labels, &of_image);
        Ok(labels)
    }
}

/// Reads a JSON file, if it exists and is complete.
fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&read_up_to(path, MAX)?).ok()
}

/// The real path of a file that only root, or this process's user, can have written or replaced.
///
/// # Errors
/// If another user can.
fn roots_alone(path: &Path) -> Result<PathBuf, OciError> {
    let others = |path: &Path| -> io::Result<bool> {
        let found = fs::symlink_metadata(path)?;
        // In a sticky directory only the owner can replace an entry, and the next component's owner is checked next.
        let writable = found.mode() & 0o022 != 0 && (found.is_file() || found.mode() & 0o1000 == 0);
        Ok(writable || ![0, geteuid().as_raw()].contains(&found.uid()))
    };
    let refused = |why: NotRoots| OciError::NotDockers { path: path.to_owned(), why };
    let real = path.canonicalize().map_err(|e| refused(e.into()))?;
    for above in real.ancestors() {
        if others(above).map_err(|e| refused(e.into()))? {
            return Err(refused(NotRoots::Writable(above.to_owned())));
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

    /// Docker's directory with one container of one image.
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
    fn a_description_that_others_may_write_decides_nothing() {
        let docker = Docker::new("others", &json!({"mesh.service": "shop/db"}), &json!({}));
        let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let file = docker.containers().join(id()).join(FILE);
        for (path, wrong, right) in
            [(docker.0.0.clone(), 0o775, 0o755), (docker.containers(), 0o757, 0o710), (file, 0o666, 0o600)]
        {
            mode(&path, wrong);
            let found = find(&docker, &id()).unwrap();
            assert_eq!(found.labels()["mesh.service"], "shop/db", "what it asks for is known");
            let error = found.labels_of_its_own(&[]).unwrap_err();
            assert!(error.to_string().contains(&format!("write to {}", path.display())), "{error}");
            mode(&path, right);
        }
        mode(&docker.0.0, 0o1777);
        assert!(find(&docker, &id()).unwrap().believed.is_ok(), "as in /tmp, where only the owner replaces a file");
    }

    #[test]
    fn a_link_does_not_evade_the_check() {
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
