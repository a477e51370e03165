//! How many tunnels each pod would have to give so that all hold about the same.

/// For each of `loads`, how many have to leave it, so that the most and the fewest that a pod then
/// holds differ by `tolerance_percent` of the mean at most (and by one in any case), once all that
/// leave have gone to the pods that hold the fewest. The fewest that do it; from the most-loaded
/// pods first.
#[must_use]
pub fn surplus(loads: &[usize], tolerance_percent: u8) -> Vec<usize> {
    let total: usize = loads.iter().sum();
    let Some(&highest) = loads.iter().max() else {
        return Vec::new();
    };
    let mean = total as f64 / loads.len() as f64;
    let tolerance = (mean * f64::from(tolerance_percent) / 100.0).max(1.0);
    let above =
        |level: usize| -> usize { loads.iter().map(|load| load.saturating_sub(level)).sum() };
    // The lower the level, the nearer together they come: the highest one that is near enough.
    let (mut near, mut far) = (total / loads.len(), highest + 1);
    while near + 1 < far {
        let middle = near + (far - near) / 2;
        if (middle as f64) - filled(loads, above(middle)) as f64 <= tolerance {
            near = middle;
        } else {
            far = middle;
        }
    }
    loads.iter().map(|load| load.saturating_sub(near)).collect()
}

/// What the pod with the fewest holds after `more` have gone, one by one, to whoever had the fewest.
fn filled(loads: &[usize], more: usize) -> usize {
    let mut sorted = loads.to_vec();
    sorted.sort_unstable();
    let mut left = more;
    let mut level = sorted.first().copied().unwrap_or_default();
    for (lower, &load) in sorted.iter().enumerate() {
        // All `lower` pods before this one stand at `level`.
        let lift = load.saturating_sub(level);
        if lift.saturating_mul(lower) > left {
            break;
        }
        left -= lift * lower;
        level = load;
        if lower + 1 == sorted.len() {
            return level + left / sorted.len();
        }
        if sorted
            .get(lower + 1)
            .is_some_and(|next| next.saturating_sub(level).saturating_mul(lower + 1) > left)
        {
            return level + left / (lower + 1);
        }
    }
    level
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_new_pod_takes_its_share() {
        assert_eq!(surplus(&[300, 300, 0], 1), [100, 100, 0]);
        assert_eq!(surplus(&[100, 100], 20), [0, 0]);
        assert_eq!(surplus(&[109, 91], 20), [0, 0]);
        assert_eq!(surplus(&[1, 0], 20), [0, 0]);
        assert_eq!(surplus(&[2, 0], 20), [1, 0]);
        assert_eq!(surplus(&[7], 20), [0]);
        assert_eq!(surplus(&[], 20), [0usize; 0]);
        assert_eq!(surplus(&[0, 0], 20), [0, 0]);
    }

    /// Sends what leaves to whoever has the fewest, one by one.
    fn moved(loads: &[usize], leaving: &[usize]) -> Vec<usize> {
        let mut after: Vec<usize> = loads
            .iter()
            .zip(leaving)
            .map(|(load, leaving)| load - leaving)
            .collect();
        for _ in 0..leaving.iter().sum() {
            *after.iter_mut().min().unwrap() += 1;
        }
        after
    }

    fn spread(loads: &[usize]) -> usize {
        loads.iter().max().unwrap() - loads.iter().min().unwrap()
    }

    proptest! {
        #[test]
        fn pods_differ_by_the_tolerance_at_most_and_no_more_leave_than_must(
            loads in proptest::collection::vec(0usize..400, 1..12),
            tolerance in 1u8..=100,
        ) {
            let leaving = surplus(&loads, tolerance);
            let mean = loads.iter().sum::<usize>() as f64 / loads.len() as f64;
            let allowed = (mean * f64::from(tolerance) / 100.0).max(1.0);
            prop_assert!(spread(&moved(&loads, &leaving)) as f64 <= allowed);
            // One fewer from the most loaded would not do.
            let count: usize = leaving.iter().sum();
            if count > 0 {
                let level = loads.iter().zip(&leaving).map(|(load, leaving)| load - leaving).max().unwrap();
                let fewer: Vec<usize> = loads.iter().map(|load| load.saturating_sub(level + 1)).collect();
                prop_assert!(spread(&moved(&loads, &fewer)) as f64 > allowed);
            }
        }
    }
}
