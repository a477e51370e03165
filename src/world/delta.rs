//! What a source says.

use super::key::{Kind, ObjectKey};
use super::object::Object;

/// One thing that a source says.
#[derive(Clone, Debug)]
pub enum Delta {
    /// An object was created or changed.
    Apply(Object),
    /// An object is gone.
    Delete(ObjectKey),
    /// These are all objects of a kind: the first list, or a list after a gap. Objects that are
    /// not in it are gone.
    Reset(Kind, Vec<Object>),
}
