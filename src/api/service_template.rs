//! How the Service that a `LoadBalancer` owns is to be.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The Service through which clients reach a load balancer with exposure `Service`. It is made in
/// the controller's namespace and kept as declared here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {
        "rule": "!has(self.loadBalancerClass) || !has(self.type) || self.type == 'LoadBalancer'",
        "message": "loadBalancerClass is for type LoadBalancer; remove it or change the type",
    },
    {
        "rule": "!has(self.externalTrafficPolicy) || !has(self.type) || self.type != 'ClusterIP'",
        "message": "externalTrafficPolicy is for types LoadBalancer and NodePort; remove it or change the type",
    },
]))]
pub struct ServiceTemplate {
    /// `spec.type`. Default `LoadBalancer`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(rename = "type")]
    pub service_type: Option<ServiceType>,
    /// Annotations, such as those that a cloud reads.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub annotations: BTreeMap<String, String>,
    /// Labels, beside those by which the controller knows the Service.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    pub labels: BTreeMap<String, String>,
    /// `spec.externalTrafficPolicy`. `Local` keeps the client's address and sends traffic only to
    /// nodes that have a pod of the controller. Default `Cluster`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<ExternalTrafficPolicy>,
    /// `spec.loadBalancerClass`; set once, as Kubernetes lets nobody change it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub load_balancer_class: Option<String>,
    /// `spec.loadBalancerSourceRanges`: CIDRs of the clients that the cloud lets through.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(min = 1, max = 64)))]
    pub load_balancer_source_ranges: Vec<String>,
    /// `spec.ipFamilyPolicy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_family_policy: Option<IpFamilyPolicy>,
    /// `spec.ipFamilies`, the first of which is the primary.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 2))]
    pub ip_families: Vec<IpFamily>,
    /// Node ports by the name of the listener; Kubernetes chooses the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_ports: BTreeMap<String, u16>,
}

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// The word of the Kubernetes API.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

words! {
    /// `spec.type` of a Service.
    ServiceType {
        /// The cloud gives it an address.
        LoadBalancer = "LoadBalancer",
        /// A port on every node.
        NodePort = "NodePort",
        /// Inside the cluster only.
        ClusterIp = "ClusterIP",
    }
}

words! {
    /// `spec.externalTrafficPolicy` of a Service.
    ExternalTrafficPolicy {
        /// Every node takes traffic and may pass it to another.
        Cluster = "Cluster",
        /// Only nodes with a pod take traffic.
        Local = "Local",
    }
}

words! {
    /// `spec.ipFamilyPolicy` of a Service.
    IpFamilyPolicy {
        /// One family.
        SingleStack = "SingleStack",
        /// Both where the cluster has both.
        PreferDualStack = "PreferDualStack",
        /// Both, or it is an error.
        RequireDualStack = "RequireDualStack",
    }
}

words! {
    /// An entry of `spec.ipFamilies` of a Service.
    IpFamily {
        /// IPv4.
        V4 = "IPv4",
        /// IPv6.
        V6 = "IPv6",
    }
}
