//! One running instance: root filesystem, namespaces, cgroups, signals, output.
