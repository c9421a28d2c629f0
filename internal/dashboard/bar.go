package dashboard

import (
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Bar draws a bar on the terminal w for a work that takes a known time, with what text returns
// behind it, until stop is called. It leaves nothing on the screen.
func Bar(w io.Writer, total time.Duration, text func() string) (stop func()) {
	begun, ended := time.Now(), make(chan struct{})
	bar := progressbar.NewOptions64(total.Milliseconds()+1, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(20),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionSetPredictTime(false), progressbar.OptionShowDescriptionAtLineEnd(),
		progressbar.OptionUseANSICodes(true))
	var drawing sync.WaitGroup
	drawing.Go(func() {
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			bar.Describe(text())
			// The bar would end if it were full, and the wait for the rest comes after. An error of
			// the terminal spoils the picture alone.
			_ = bar.Set64(min(time.Since(begun), total).Milliseconds())
			select {
			case <-tick.C:
			case <-ended:
				_ = bar.Clear()
				return
			}
		}
	})
	return func() {
		close(ended)
		drawing.Wait()
	}
}
