//! nginx, tuned for many WebSockets.

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
    fs::write(directory.join("cert.pem"), &certificate.certificate)?;
    fs::write(directory.join("key.pem"), &certificate.key)?;
    let file = directory.join("nginx.conf");
    fs::write(&file, text(scene, ports, directory))?;
    command.arg("-p").arg(directory).arg("-c").arg(&file);
    // Without it, messages before the configuration is read go to the system's log.
    command.arg("-e").arg("stderr");
    Ok(())
}

fn text(scene: &Scene, ports: Ports, directory: &Path) -> String {
    let mut servers = String::new();
    for address in scene.balanced() {
        let port = scene.backend_port();
        let _ = write!(servers, "server {address}:{port}; ");
    }
    let Ports { http, https, .. } = ports;
    let directory = directory.display();
    // Started by root, workers would become another user, who may not enter the directory.
    let user = if fs::metadata("/proc/self")
        .is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0)
    {
        "user root;"
    } else {
        ""
    };
    format!(
        "daemon off;
{user}
pid {directory}/pid;
error_log stderr warn;
worker_processes 2;
worker_rlimit_nofile 20000;
events {{
    worker_connections 20000;
}}
http {{
    access_log off;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;

    keepalive_timeout 1h;
    keepalive_requests 100000000;
    tcp_nodelay on;

    upstream backend {{
        {servers}
        keepalive 256;
        keepalive_requests 100000000;
        keepalive_timeout 1h;
    }}

    server {{
        listen 127.0.0.1:{http} reuseport backlog=4096;
        listen 127.0.0.1:{https} ssl reuseport backlog=4096;
        ssl_certificate {directory}/cert.pem;
        ssl_certificate_key {directory}/key.pem;
        ssl_protocols TLSv1.3;
        ssl_buffer_size 4k;

        proxy_http_version 1.1;
        proxy_set_header Host $host;
        proxy_read_timeout 24h;
        proxy_send_timeout 24h;
        proxy_buffer_size 4k;
        proxy_buffers 8 4k;

        location / {{
            proxy_set_header Connection \"\";
            proxy_pass http://backend;
        }}
        location /ws {{
            proxy_set_header Connection upgrade;
            proxy_set_header Upgrade $http_upgrade;
            proxy_pass http://backend;
        }}
    }}
}}
"
    )
}
