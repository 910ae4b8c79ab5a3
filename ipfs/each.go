package ipfs

import (
	"context"
	"sync"
)

// EachObject lists a store, and calls do for the objects, for as many as there are workers at the
// same time. It returns the first error of do, unchanged, and that of the listing otherwise; ctx ends
// for the other calls of do then.
func EachObject(ctx context.Context, s Store, prefix string, workers int, do func(context.Context, Item) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	items := make(chan Item)
	var all sync.WaitGroup
	for range max(1, workers) {
		all.Go(func() {
			for i := range items {
				if err := do(ctx, i); err != nil {
					cancel(err)
				}
			}
		})
	}
	err := s.List(ctx, prefix, func(i Item) error {
		select {
		case items <- i:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	close(items)
	all.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
