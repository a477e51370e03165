//! What translation depends on beside the world.

use crate::routing::Protocol;
use crate::world::ObjectName;

/// Settings of the controller that translation depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The value of the annotation `kubernetes.io/ingress.class` that is ours even if there is no
    /// IngressClass of this name.
    pub default_class: String,
    /// Name, port and protocol of the listeners of the built-in load balancer, which serves
    /// classes without parameters.
    pub default_listeners: Vec<(String, u16, Protocol)>,
    /// The LoadBalancer that serves classes without parameters instead of the built-in one.
    pub default_load_balancer: Option<ObjectName>,
    /// Whether there may be IngressClasses at all. They are cluster-scoped: a controller that is
    /// limited to namespaces cannot see them, and knows its class by name alone.
    pub sees_classes: bool,
    /// How target ports are allotted.
    pub target_ports: TargetPorts,
}

/// How the target ports of listeners behind owned Services are allotted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TargetPorts {
    /// By the translation itself: manifests have no status to record them in.
    #[default]
    AtOnce,
    /// By the leader, in the status of the LoadBalancer, so that all replicas have the same and
    /// keep them. A listener is opened when its port is recorded.
    Recorded,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_class: "holdfast".to_owned(),
            default_listeners: vec![
                ("http".to_owned(), 80, Protocol::Http),
                ("https".to_owned(), 443, Protocol::Https),
            ],
            default_load_balancer: None,
            sees_classes: true,
            target_ports: TargetPorts::default(),
        }
    }
}
