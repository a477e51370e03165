//! Health, metrics and JSON for operators, on a port of their own.
