//! The metrics registry and its label sets.
