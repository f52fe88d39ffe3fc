"""What Cinder's backup drivers need of Cinder's backup object, without its database."""
import contextlib


class Backup(dict):
    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)

    def __setattr__(self, name, value):
        self[name] = value

    def save(self):
        pass

    def refresh(self):
        pass

    @contextlib.contextmanager
    def as_read_deleted(self):
        yield
