//! The annotations and labels of a container's image in containers/storage, as podman uses it. podman copies them to the container,
//! without a mark that tells them from the container's own.

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{
    error::{CONFIGURATIONS, StoreError},
    go, libpod,
    read::{MAX, read_up_to},
    spec::Spec,
};
use crate::containers::{Labels, leave_out_the_images};

/// The lists of containers (containers/storage, containers.go). The second one ends with a restart of the machine.
const LISTS: [&str; 2] = ["containers.json", "volatile-containers.json"];
/// Files that podman mounts into any container from its directory for volatile state.
const MOUNTED: [&str; 4] = ["/run/.containerenv", "/etc/hosts", "/etc/resolv.conf", "/etc/hostname"];

/// How the name of an image's configuration begins: `=` and the BASE64 of `sha256:`, as far as the next byte doesn't change it.
const SHA256: &[u8] = b"=c2hhMjU2O";

/// A container's entry in such a list.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(default)]
    layer: String,
    /// Empty for a container without an image.
    #[serde(default)]
    image: String,
}

/// The container's annotations without those of its image that concern membership.
///
/// # Errors
/// If the image's annotations can't be determined.
pub(super) fn own_annotations(spec: &Spec) -> Result<Labels, StoreError> {
    let mut annotations = spec.annotations();
    if let Some((store, root)) = spec.root().and_then(|root| Some((Store::of(&root)?, root))) {
        let image = store.image(&root, spec)?;
        if !image.is_empty() {
            leave_out_the_images(&mut annotations, &store.annotations(&image)?);
        }
    }
    Ok(annotations)
}

/// The container's record in podman's database, with all its labels; `None`: it isn't found.
pub(super) fn record(spec: &Spec) -> Option<libpod::Record> {
    let store = spec.root().and_then(|root| Store::of(&root));
    libpod::record(spec, store.map(|store| store.directory))
}

/// The container's labels without those of its image that concern membership.
///
/// # Errors
/// If the image's labels can't be determined.
pub(super) fn own_labels(record: &libpod::Record) -> Result<Labels, StoreError> {
    let mut labels = record.labels();
    if !record.image.is_empty() {
        let store = record.store.clone().unwrap_or_default();
        let configuration = of_image(&store, &record.image, configuration)?;
        let of_image = go::labels(&configuration).map_err(|_| StoreError::Ambiguous(record.image.clone()))?;
        leave_out_the_images(&mut labels, &of_image);
    }
    Ok(labels)
}

/// A store of containers and images, by one driver.
#[derive(Debug)]
struct Store {
    directory: PathBuf,
    driver: String,
}

impl Store {
    /// The store that holds the root of a container, if one does.
    fn of(root: &Path) -> Option<Self> {
        let mut places = root.ancestors().filter_map(|place| {
            let (directory, driver) = (place.parent()?.to_owned(), place.file_name()?.to_str()?.to_owned());
            Some(Self { directory, driver })
        });
        places.find(|store| ["containers", "layers"].iter().all(|what| store.place(what).is_dir()))
    }

    /// The directory of its `what`, such as containers.
    fn place(&self, what: &str) -> PathBuf {
        self.directory.join(self.called(what))
    }

    fn called(&self, what: &str) -> String {
        format!("{}-{what}", self.driver)
    }

    /// The image of the container with this root; empty if it has none.
    fn image(&self, root: &Path, spec: &Spec) -> Result<String, StoreError> {
        let layers: Vec<&OsStr> = root.iter().collect();
        let volatile = MOUNTED.iter().filter_map(|mounted| {
            let source = spec.source_of(mounted)?;
            source.ancestors().find(|place| place.ends_with(self.called("containers"))).map(Path::to_owned)
        });
        let mut lists =
            [self.place("containers")].into_iter().chain(volatile).flat_map(|place| LISTS.map(|l| place.join(l)));
        let found = lists.find_map(|list| {
            let all: Vec<Entry> = serde_json::from_slice(&read_up_to(&list, MAX)?).ok()?;
            all.into_iter().find(|entry| layers.contains(&OsStr::new(&entry.layer)))
        });
        let missing = || StoreError::NotListed { root: root.to_owned(), place: self.place("containers") };
        found.map(|entry| entry.image).ok_or_else(missing)
    }

    /// The annotations of an image.
    fn annotations(&self, image: &str) -> Result<Labels, StoreError> {
        let manifest = of_image(&self.directory, image, |place| read_up_to(&place.join("manifest"), MAX))?;
        go::annotations(&manifest).map_err(|_| StoreError::Ambiguous(image.to_owned()))
    }
}

/// Reads a file of an image, from the image's directory in this store or a further one.
fn of_image(store: &Path, image: &str, read: impl Fn(&Path) -> Option<Vec<u8>>) -> Result<Vec<u8>, StoreError> {
    if !image.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(StoreError::OddName(image.to_owned()));
    }
    let directories =
        [store.to_owned()].into_iter().chain(CONFIGURATIONS.iter().flat_map(|file| further(Path::new(file))));
    let missing = || StoreError::NoImage { image: image.to_owned(), place: store.to_owned() };
    directories.flat_map(images).find_map(|place| read(&place.join(image))).ok_or_else(missing)
}

/// The configuration of an image, whose file is called `=` and the BASE64 of its digest; `None` if not exactly one is there.
fn configuration(image: &Path) -> Option<Vec<u8>> {
    let all = fs::read_dir(image).ok()?.flatten();
    let mut found = all.filter(|entry| entry.file_name().as_bytes().starts_with(SHA256));
    let (first, further) = (found.next()?, found.next());
    read_up_to(&first.path(), MAX).filter(|_| further.is_none())
}

/// The directories of images in a store, one per driver.
fn images(directory: PathBuf) -> impl Iterator<Item = PathBuf> {
    let all = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    all.filter(|path| path.to_string_lossy().ends_with("-images"))
}

/// The stores of images that a configuration adds.
fn further(configuration: &Path) -> Vec<PathBuf> {
    let stores = || {
        let text = String::from_utf8(read_up_to(configuration, MAX)?).ok()?;
        let table: toml::Table = text.parse().ok()?;
        let storage = table.get("storage")?;
        let options = storage.get("options").and_then(|options| options.get("additionalimagestores"));
        let several = options.and_then(toml::Value::as_array).into_iter().flatten();
        let all = storage.get("imagestore").into_iter().chain(several);
        Some(all.filter_map(|store| store.as_str().map(PathBuf::from)).collect())
    };
    stores().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::{Value, json};

    use super::*;
    use crate::state::tests::Scratch;

    /// The service that remains of a container with `mesh.service=shop/db` and an image with this manifest.
    fn counts(scratch: &Scratch, list: &str, entry: &Value, manifest: &str) -> Result<Option<String>, StoreError> {
        let (containers, image) = (scratch.0.join("overlay-containers"), scratch.0.join("overlay-images/f00"));
        let _ = fs::remove_dir_all(&containers);
        for directory in [&containers, &image, &scratch.0.join("overlay-layers")] {
            fs::create_dir_all(directory).unwrap();
        }
        fs::write(containers.join(list), json!([{"layer": "b"}, entry]).to_string()).unwrap();
        fs::write(image.join("manifest"), manifest).unwrap();
        let spec = json!({
            "root": {"path": scratch.0.join("overlay/a/merged")},
            "annotations": {"mesh.service": "shop/db", "other": "x"},
        });
        let spec = Spec::read(spec.to_string().as_bytes()).unwrap();
        own_annotations(&spec).map(|own| own.get("mesh.service").cloned())
    }

    #[test]
    fn annotations_of_the_image_do_not_count() {
        let scratch = Scratch::new("storage");
        let service = Ok(Some("shop/db".to_owned()));
        let entry = json!({"layer": "a", "image": "f00"});
        let claims = json!({"annotations": {"mesh.service": "shop/db"}}).to_string();
        for list in LISTS {
            assert_eq!(counts(&scratch, list, &entry, &claims), Ok(None));
            assert_eq!(counts(&scratch, list, &entry, "{}"), service);
            assert_eq!(counts(&scratch, list, &json!({"layer": "a"}), &claims), service, "it has no image");
        }
        let others = json!({"annotations": {"mesh.service": "shop/app"}}).to_string();
        assert_eq!(counts(&scratch, LISTS[0], &entry, &others), service, "the user set another value");
    }

    #[test]
    fn an_unknown_image_is_refused() {
        let scratch = Scratch::new("storage-unknown");
        for (image, manifest) in [
            ("beef", "{}"),
            ("../f00", "{}"),
            ("f00", r#"{"Annotations": {"mesh.service": "shop/db"}}"#),
            ("f00", "no JSON"),
        ] {
            let refusal = counts(&scratch, LISTS[0], &json!({"layer": "a", "image": image}), manifest).unwrap_err();
            assert!(
                matches!(refusal, StoreError::Ambiguous(_) | StoreError::OddName(_) | StoreError::NoImage { .. }),
                "{refusal:?}"
            );
        }
        let another = counts(&scratch, LISTS[0], &json!({"layer": "c", "image": "f00"}), "{}").unwrap_err();
        assert!(matches!(another, StoreError::NotListed { .. }), "{another:?}");
    }

    #[test]
    fn a_volatile_list_can_be_elsewhere() {
        let scratch = Scratch::new("storage-transient");
        let entry = json!({"layer": "a", "image": "f00"});
        let claims = json!({"annotations": {"mesh.service": "shop/db"}}).to_string();
        assert_eq!(counts(&scratch, LISTS[1], &entry, &claims), Ok(None));
        let passing = scratch.0.join("run/overlay-containers");
        fs::create_dir_all(&passing).unwrap();
        fs::rename(scratch.0.join("overlay-containers").join(LISTS[1]), passing.join(LISTS[1])).unwrap();
        let spec = json!({
            "root": {"path": scratch.0.join("overlay/a/merged")},
            "annotations": {"mesh.service": "shop/db"},
            "mounts": [{"destination": "/etc/hosts", "source": passing.join("c0/userdata/hosts")}],
        });
        let own = own_annotations(&Spec::read(spec.to_string().as_bytes()).unwrap()).unwrap();
        assert!(own.is_empty(), "{own:?}");
    }
}
