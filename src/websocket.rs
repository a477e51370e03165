//! The WebSocket engine.
