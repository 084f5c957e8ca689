//! The control groups that this process is in: the kernel bounds there what it and its workloads
//! may use, versions 1 and 2.

use std::path::{Component, Path, PathBuf};

/// One control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Its path within its hierarchy, as far as this process sees that.
    pub(crate) path: PathBuf,
    /// The directory with its files.
    pub(crate) dir: PathBuf,
}

/// The groups of a controller that this process is in, from the innermost to the root: each of them
/// may have a limit. None where the kernel has no control groups.
pub(crate) fn groups(controller: &str) -> Vec<Group> {
    // Files of the kernel's: reading them does not wait for a disk.
    let read = |file| std::fs::read_to_string(file).unwrap_or_default();
    parse(
        controller,
        &read("/proc/self/cgroup"),
        &read("/proc/self/mountinfo"),
    )
}

fn parse(controller: &str, memberships: &str, mounts: &str) -> Vec<Group> {
    let mut groups = Vec::new();
    for membership in memberships.lines() {
        let mut fields = membership.splitn(3, ':');
        let (Some(_number), Some(controllers), Some(own)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        // Version 2 has one hierarchy for all controllers, which are not listed.
        let unified = controllers.is_empty();
        if !unified && !controllers.split(',').any(|each| each == controller) {
            continue;
        }
        let mount = mounts.lines().find_map(|line| {
            let mount = Mount::parse(line)?;
            let wanted = if unified {
                mount.kind == "cgroup2"
            } else {
                mount.kind == "cgroup" && mount.options.split(',').any(|each| each == controller)
            };
            wanted.then_some(mount)
        });
        if let Some(mount) = mount {
            groups.extend(mount.groups(Path::new(own)));
        }
    }
    groups
}

/// What is wanted of a line of `/proc/self/mountinfo`.
struct Mount<'a> {
    /// What of the hierarchy is mounted: in a container, often only its own part.
    root: &'a Path,
    point: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let mut right = right.split(' ');
        Some(Self {
            root: Path::new(left.next()?),
            point: Path::new(left.next()?),
            kind: right.next()?,
            options: right.nth(1)?,
        })
    }

    fn groups(&self, own: &Path) -> Vec<Group> {
        // A group that cannot be reached from here is one that the mount point stands for.
        let inside = own.strip_prefix(self.root).unwrap_or(Path::new(""));
        let reachable = inside
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let inside = if reachable { inside } else { Path::new("") };
        inside
            .ancestors()
            .map(|path| Group {
                path: path.to_owned(),
                dir: self.point.join(path),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dirs(controller: &str, memberships: &str, mounts: &str) -> Vec<String> {
        let groups = parse(controller, memberships, mounts).into_iter();
        groups
            .map(|group| group.dir.to_string_lossy().trim_end_matches('/').to_owned())
            .collect()
    }

    #[test]
    fn every_group_up_to_the_root_counts() {
        let mounts = "29 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";

        assert_eq!(
            dirs("memory", "0::/system.slice/nex.service\n", mounts),
            [
                "/sys/fs/cgroup/system.slice/nex.service",
                "/sys/fs/cgroup/system.slice",
                "/sys/fs/cgroup"
            ]
        );
    }

    #[test]
    fn version_one_has_a_hierarchy_for_each_controller() {
        let memberships = "4:memory:/jobs/a\n2:cpu,cpuacct:/jobs\n0::/\n";
        let mounts = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw shared:9 - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";

        let unified = "/sys/fs/cgroup/unified";
        assert_eq!(
            dirs("memory", memberships, mounts),
            [
                "/sys/fs/cgroup/memory/jobs/a",
                "/sys/fs/cgroup/memory/jobs",
                "/sys/fs/cgroup/memory",
                unified
            ]
        );
        assert_eq!(
            dirs("cpuacct", memberships, mounts),
            [
                "/sys/fs/cgroup/cpu,cpuacct/jobs",
                "/sys/fs/cgroup/cpu,cpuacct",
                unified
            ]
        );
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let mount = |root: &str| {
            format!("35 31 0:32 {root} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n")
        };

        for (own, root) in [
            ("4:memory:/docker/a", "/docker/a"),
            ("4:memory:/docker/a", "/kubepods/b"),
            ("4:memory:/../docker/a", "/"),
        ] {
            assert_eq!(
                dirs("memory", own, &mount(root)),
                ["/sys/fs/cgroup/memory"],
                "{own} {root}"
            );
        }
    }

    #[test]
    fn no_control_groups_are_no_limits() {
        assert!(parse("memory", "", "").is_empty());
        assert!(parse("memory", "odd\n0::/\n", "odd\n").is_empty());
    }
}
