//! Which service a container belongs to, by its labels.

mod labels;

pub(crate) use labels::{CLIENT, IMAGES_OWN, Labels, Member, SERVICE, counts, leave_out_the_images, member, texts};
