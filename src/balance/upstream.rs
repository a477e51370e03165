//! An upstream's endpoints and the choice among them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;

use super::endpoint::Endpoint;
use crate::routing::{EndpointSet, EndpointState, UpstreamId};

/// One port of one Service with its live endpoints.
#[derive(Debug)]
pub struct Upstream<P> {
    /// Identity.
    pub id: Arc<UpstreamId>,
    members: ArcSwap<Members<P>>,
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Members<P> {
    /// Every endpoint, the draining ones too: they keep their state and their tunnels.
    all: HashMap<SocketAddr, Arc<Endpoint<P>>>,
    /// Those that may take new work.
    candidates: Box<[Arc<Endpoint<P>>]>,
    set: EndpointSet,
}

impl<P: Default> Upstream<P> {
    pub(super) fn new(id: Arc<UpstreamId>, set: EndpointSet) -> Self {
        let members = Members::new(set, &HashMap::new());
        Self {
            id,
            members: ArcSwap::from_pointee(members),
            turn: AtomicUsize::new(0),
        }
    }

    /// Takes a new set of endpoints; those that stay keep their state. Answers the endpoints that
    /// have left.
    pub(super) fn update(&self, set: EndpointSet) -> Vec<Arc<Endpoint<P>>> {
        let before = self.members.load_full();
        if before.set == set {
            return Vec::new();
        }
        let members = Members::new(set, &before.all);
        let gone = before
            .all
            .values()
            .filter(|endpoint| !members.all.contains_key(&endpoint.address))
            .cloned()
            .collect();
        self.members.store(Arc::new(members));
        gone
    }
}

impl<P> Upstream<P> {
    /// An endpoint for a request, of those that `admits` names.
    ///
    /// Two candidates are compared, the next in turn and the one after, and the one with less in
    /// flight is taken: round robin while nothing is in flight, and away from pods that hold more
    /// tunnels or answer more slowly.
    #[must_use]
    pub fn pick(&self, admits: impl Fn(&Endpoint<P>) -> bool) -> Option<Arc<Endpoint<P>>> {
        self.first(
            |open| {
                let first = open.next()?;
                match open.next() {
                    Some(second) if second.in_flight() < first.in_flight() => Some(second),
                    _ => Some(first),
                }
            },
            admits,
        )
    }

    /// An endpoint for a tunnel, of those that `admits` names: the one with the least in flight. Tunnels stay,
    /// so that the choice is worth a look at all of them; a pod that has come later is given its
    /// share first.
    #[must_use]
    pub fn pick_for_tunnel(
        &self,
        admits: impl Fn(&Endpoint<P>) -> bool,
    ) -> Option<Arc<Endpoint<P>>> {
        self.first(
            |open| open.min_by_key(|endpoint| endpoint.in_flight()),
            admits,
        )
    }

    /// The choice among the candidates from the next in turn on: those in use, or, where there is
    /// none of them, the others.
    fn first(
        &self,
        choose: impl for<'a> Fn(
            &mut dyn Iterator<Item = &'a Arc<Endpoint<P>>>,
        ) -> Option<&'a Arc<Endpoint<P>>>,
        admits: impl Fn(&Endpoint<P>) -> bool,
    ) -> Option<Arc<Endpoint<P>>> {
        let members = self.members.load();
        let count = members.candidates.len();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let open = |cordoned: bool| {
            (0..count)
                .filter_map(|step| members.candidates.get(turn.wrapping_add(step) % count))
                .filter(|endpoint| admits(endpoint))
                .filter(move |endpoint| endpoint.cordon().is_some() == cordoned)
        };
        choose(&mut open(false))
            .or_else(|| choose(&mut open(true)))
            .cloned()
    }

    /// The endpoint of this address, whatever its state.
    #[must_use]
    pub fn endpoint(&self, address: SocketAddr) -> Option<Arc<Endpoint<P>>> {
        self.members.load().all.get(&address).cloned()
    }

    /// The addresses that are ready, in order, but for those that an operator has taken out of use.
    pub fn ready(&self) -> Vec<SocketAddr> {
        let members = self.members.load();
        members
            .set
            .all()
            .iter()
            .filter(|endpoint| endpoint.state == EndpointState::Ready)
            .map(|endpoint| endpoint.address)
            .filter(|address| {
                let endpoint = members.all.get(address);
                endpoint.is_some_and(|endpoint| endpoint.cordon().is_none())
            })
            .collect()
    }

    /// Every endpoint, in no particular order.
    #[must_use]
    pub fn endpoints(&self) -> Vec<Arc<Endpoint<P>>> {
        self.members.load().all.values().cloned().collect()
    }

    /// The endpoints as told by the control plane.
    #[must_use]
    pub fn set(&self) -> EndpointSet {
        self.members.load().set.clone()
    }
}

impl<P: Default> Members<P> {
    fn new(set: EndpointSet, before: &HashMap<SocketAddr, Arc<Endpoint<P>>>) -> Self {
        let all: HashMap<SocketAddr, Arc<Endpoint<P>>> = set
            .all()
            .iter()
            .map(|member| {
                let endpoint = before
                    .get(&member.address)
                    .cloned()
                    .unwrap_or_else(|| Arc::new(Endpoint::new(member.address)));
                (member.address, endpoint)
            })
            .collect();
        let candidates = set
            .candidates()
            .filter_map(|address| all.get(&address).cloned())
            .collect();
        Self {
            all,
            candidates,
            set,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::balance::endpoint::InFlight;
    use crate::routing::{Endpoint as Member, PodProtocol};

    fn upstream(ports: &[u16]) -> Upstream<()> {
        let id = UpstreamId {
            namespace: "default".into(),
            service: "chat".into(),
            port: 80,
            protocol: PodProtocol::Plain,
        };
        Upstream::new(Arc::new(id), set(ports, EndpointState::Ready))
    }

    fn set(ports: &[u16], state: EndpointState) -> EndpointSet {
        let member = |&port| Member {
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            state,
        };
        EndpointSet::new(ports.iter().map(member).collect())
    }

    fn ports(upstream: &Upstream<()>, picks: usize) -> Vec<u16> {
        let mut ports: Vec<u16> = (0..picks)
            .filter_map(|_| upstream.pick(|_| true))
            .map(|endpoint| endpoint.address.port())
            .collect();
        ports.sort_unstable();
        ports
    }

    #[test]
    fn idle_endpoints_take_turns() {
        assert_eq!(ports(&upstream(&[1, 2, 3]), 6), [1, 1, 2, 2, 3, 3]);
        assert!(upstream(&[]).pick(|_| true).is_none());
    }

    #[test]
    fn new_work_goes_where_less_is_in_flight() {
        let upstream = upstream(&[1, 2]);
        let mut held: Vec<InFlight<()>> = Vec::new();
        for _ in 0..100 {
            held.extend(upstream.pick(|_| true).map(InFlight::new));
        }
        held.retain(|held| held.endpoint().address.port() == 1);
        assert_eq!(held.len(), 50);
        assert_eq!(ports(&upstream, 10), [2; 10]);
    }

    #[test]
    fn a_tunnel_goes_where_the_fewest_are() {
        let upstream = upstream(&[1, 2, 3, 4, 5]);
        let mut held: Vec<InFlight<()>> = Vec::new();
        for _ in 0..100 {
            held.extend(upstream.pick_for_tunnel(|_| true).map(InFlight::new));
        }
        held.retain(|held| held.endpoint().address.port() != 4);
        for _ in 0..20 {
            let picked = upstream.pick_for_tunnel(|_| true).unwrap();
            assert_eq!(picked.address.port(), 4);
            held.push(InFlight::new(picked));
        }
        let next = upstream.pick_for_tunnel(|endpoint| endpoint.address.port() != 4);
        assert_ne!(next.unwrap().address.port(), 4);
    }

    #[test]
    fn a_cordoned_endpoint_gets_work_only_where_no_other_can() {
        let upstream = upstream(&[1, 2]);
        let first = SocketAddr::from(([127, 0, 0, 1], 1));
        let second = SocketAddr::from(([127, 0, 0, 1], 2));
        upstream
            .endpoint(first)
            .unwrap()
            .set_cordon(Some(Duration::ZERO));
        assert_eq!(ports(&upstream, 6), [2; 6]);
        assert_eq!(upstream.pick_for_tunnel(|_| true).unwrap().address, second);
        assert_eq!(
            upstream
                .pick(|endpoint| endpoint.address != second)
                .unwrap()
                .address,
            first
        );
        let cordoned = upstream.endpoint(first).unwrap();
        assert_eq!(cordoned.cordon(), Some(Duration::ZERO));
        cordoned.set_cordon(None);
        assert_eq!(ports(&upstream, 4), [1, 1, 2, 2]);
    }

    #[test]
    fn members_that_stay_keep_their_state_and_tried_ones_are_passed_over() {
        let upstream = upstream(&[1]);
        let held = upstream.pick(|_| true).map(InFlight::new).unwrap();
        let gone = upstream.update(set(&[1, 2], EndpointState::Ready));
        assert!(gone.is_empty());
        let again = upstream.endpoints();
        assert!(
            again
                .iter()
                .any(|endpoint| Arc::ptr_eq(endpoint, held.endpoint()))
        );
        let tried = held.endpoint().address;
        let other = upstream.pick(|endpoint| endpoint.address != tried);
        assert_eq!(other.unwrap().address.port(), 2);
        let gone = upstream.update(set(&[2], EndpointState::Draining));
        assert!(Arc::ptr_eq(&gone[0], held.endpoint()));
        assert_eq!(ports(&upstream, 1), [2]);
    }
}
