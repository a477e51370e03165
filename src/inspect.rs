//! What `check`, `routes` and `explain` print.
