# The little of libmount's Python binding that crun's suite asks for: Debian has no package of it.
class Mount:
    def __init__(self, line):
        left, right = line.split(" - ", 1)
        words = left.split()
        self.target = words[4]
        self.vfs_options = words[5]
        self.fs_options = right.split()[2]


class Table:
    def __init__(self, path):
        with open(path) as file:
            self.mounts = [Mount(line) for line in file if " - " in line]

    def find_target(self, target):
        return next(mount for mount in reversed(self.mounts) if mount.target == target)
