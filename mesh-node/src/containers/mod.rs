//! Which service a container belongs to, by its labels, and why it is not attached.

mod error;
mod labels;

pub(crate) use error::ContainerError;
pub(crate) use labels::{
    CLIENT, DNS, IMAGES_OWN, Labels, Member, RELEASE, SERVICE, counts, leave_out_the_images, member, texts,
};
