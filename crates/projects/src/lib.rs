//! Resource Manager and Service Usage: projects and the APIs they may call.
