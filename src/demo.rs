//! The pods of `holdfast demo`.
