//! HAProxy, tuned for many WebSockets.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use super::{Ports, Scene};

/// Writes the configuration into `directory` and completes the command.
pub(super) fn configure(
    command: &mut Command,
    scene: &Scene,
    ports: Ports,
    directory: &Path,
) -> Result<()> {
    let certificate = scene.certificate();
    let both = format!("{}{}", certificate.certificate, certificate.key);
    fs::write(directory.join("cert.pem"), both)?;
    let file = directory.join("haproxy.cfg");
    fs::write(&file, text(scene, ports, directory))?;
    // One process in the foreground, without a master.
    command.arg("-db").arg("-f").arg(&file);
    Ok(())
}

fn text(scene: &Scene, ports: Ports, directory: &Path) -> String {
    let mut servers = String::new();
    for (number, address) in scene.balanced().into_iter().enumerate() {
        let port = scene.backend_port();
        let _ = writeln!(servers, "    server backend{number} {address}:{port}");
    }
    let Ports { http, https, .. } = ports;
    let directory = directory.display();
    format!(
        "global
    nbthread 2
    maxconn 9900
    ssl-default-bind-options ssl-min-ver TLSv1.3

defaults
    mode http
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    timeout tunnel 24h
    http-reuse always

frontend all
    bind 127.0.0.1:{http} backlog 4096
    bind 127.0.0.1:{https} backlog 4096 ssl crt {directory}/cert.pem
    default_backend pods

backend pods
    balance roundrobin
{servers}"
    )
}
