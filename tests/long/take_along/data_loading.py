# Spawned workers import this file, so what takes time stands below the guard.
def check():
    with tempfile.TemporaryDirectory() as folder:
        write_samples(folder)
        train, val = (loader.dataset.paths for loader in make_loaders(folder))
        groups = [{group_of(Path(path)) for path in paths} for paths in (train, val)]
        assert not groups[0] & groups[1] and len(train) + len(val) == 1797
        assert main(folder) > 0.85

        runs = [[labels.tolist() for _, labels in make_loaders(folder)[0]] for _ in range(2)]
        assert runs[0] == runs[1]
        with_workers = make_loaders(folder, workers=2)
        assert [labels.tolist() for _, labels in with_workers[0]] == runs[0]
        assert sum(len(labels) for _, labels in with_workers[1]) == len(val)


image = torch.zeros(1, 8, 8)
assert not torch.equal(add_noise(image), add_noise(image))

if __name__ == "__main__":
    check()
