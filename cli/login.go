package cli

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/freehold-db/freehold/cli/client"
	"github.com/freehold-db/freehold/cli/dev"
	"github.com/freehold-db/freehold/cli/signin"
	"github.com/freehold-db/freehold/controlplane/adminapi/api"
	"github.com/freehold-db/freehold/internal/clienttls"
)

// envBrowser names the program that opens a page, as other programs have it.
const envBrowser = "BROWSER"

func loginCommand() *cobra.Command {
	var name, ca string
	var device, noBrowser bool
	cmd := &cobra.Command{
		Use:   "login [URL]",
		Short: "Sign in to a control plane as a person",
		Long: `Sign in to a control plane by its OpenID Connect provider: in the browser, or with
--device with a code on another machine. The tokens are kept in your own
configuration directory, where nobody else reads them, and renewed when they
are about to expire. Later commands use this control plane unless they are told
otherwise. Without a URL it is $` + envURL + `, a development fleet that runs here,
or the one signed in to last.`,
		Example: "  tenant-ops login https://control.example.com:7400\n  tenant-ops login --device",
		GroupID: "operate",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("one URL only")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			c, url, own, err := connectToSignIn(cmd, args)
			if err != nil {
				return err
			}
			defer c.Close()
			said, err := c.SignIn(cmd.Context())
			if err != nil {
				return err
			}
			issuer, err := pickIssuer(cmd, said, name)
			if err != nil {
				return err
			}
			if ca == "" {
				ca = own
			}
			secure, err := issuerTLS(ca)
			if err != nil {
				return &usageError{cmd.CommandPath(), err}
			}
			provider, err := signin.Discover(cmd.Context(), signin.Issuer(issuer), secure)
			if err != nil {
				return err
			}
			defer provider.Close()
			tokens, err := signInWith(cmd, provider, device, noBrowser)
			if err != nil {
				return err
			}
			store, err := signin.OpenStore()
			if err != nil {
				return err
			}
			if err := store.Put(url, signin.Login{Issuer: provider.Issuer, Tokens: tokens, CA: ca}); err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "signed in to %s by %s\n", url, issuer.Name)
			next(cmd, "whoami", "logout")
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&name, "issuer", "", "sign in at this issuer, where there are several")
	f.StringVar(&ca, "issuer-ca", "", "PEM file with roots that the issuer is believed by, beside the system's (default --ca)")
	f.BoolVar(&device, "device", false, "with a code that is entered on another machine")
	f.BoolVar(&noBrowser, "no-browser", false, "print the page's address, and open nothing")
	return cmd
}

// connectToSignIn connects without a token, to the control plane that is named
// or found. ca holds the roots that it is believed by; empty: the system's.
func connectToSignIn(cmd *cobra.Command, args []string) (c *client.Client, url, ca string, err error) {
	url, ca = os.Getenv(envURL), caFile(cmd)
	if len(args) > 0 {
		url = args[0]
	}
	info, notRunning := dev.Read(fleetDir(cmd))
	if notRunning == nil && (url == "" || strings.TrimRight(url, "/") == info.AdminURL) {
		info.AdminToken = ""
		c, err := info.Client()
		return c, info.AdminURL, info.CAFile, err
	}
	if url == "" {
		store, err := signin.OpenStore()
		if err != nil {
			return nil, "", "", err
		}
		if url, err = store.Current(); err != nil {
			return nil, "", "", err
		}
	}
	url = strings.TrimRight(url, "/")
	if url == "" {
		return nil, "", "", &usageError{cmd.CommandPath(), errors.New("which control plane? give its URL, or set " + envURL)}
	}
	c, err = clientFor(cmd, url, "")
	return c, url, ca, err
}

func pickIssuer(cmd *cobra.Command, said api.SignIn, name string) (api.SignInIssuer, error) {
	var names []string
	for _, i := range said.Issuers {
		if i.Name == name || name == "" && len(said.Issuers) == 1 {
			return i, nil
		}
		names = append(names, i.Name)
	}
	switch {
	case len(names) == 0:
		return api.SignInIssuer{}, &statusError{exitRefused, "use an access token (" + envToken + "), or configure oidc_issuers", errors.New("nobody can sign in to this control plane: no issuer is configured")}
	case name == "":
		return api.SignInIssuer{}, &usageError{cmd.CommandPath(), errors.New("say which --issuer: " + strings.Join(names, ", "))}
	}
	return api.SignInIssuer{}, &usageError{cmd.CommandPath(), fmt.Errorf("--issuer %s: there are %s", name, strings.Join(names, ", "))}
}

func signInWith(cmd *cobra.Command, p *signin.Provider, device, noBrowser bool) (signin.Tokens, error) {
	if device {
		return p.Device(cmd.Context(), func(page, code string) {
			fmt.Fprintf(cmd.ErrOrStderr(), "go to  %s\nenter  %s\n", page, code)
		})
	}
	return p.Browser(cmd.Context(), func(address string) error {
		fmt.Fprintf(cmd.ErrOrStderr(), "sign in at\n%s\n", address)
		if noBrowser {
			return nil
		}
		if err := openPage(address); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "no browser could be opened (%v): open the page yourself\n", err)
		}
		return nil
	})
}

// openPage starts the user's browser and does not wait for it.
func openPage(address string) error {
	program := os.Getenv(envBrowser)
	switch {
	case program != "":
	case runtime.GOOS == "darwin":
		program = "open"
	default:
		program = "xdg-open"
	}
	browser := exec.Command(program, address) //nolint:gosec,noctx // the user's own browser, which outlives the command
	if err := browser.Start(); err != nil {
		return err
	}
	go func() { _ = browser.Wait() }() // how it ends says nothing
	return nil
}

func issuerTLS(ca string) (*tls.Config, error) {
	if ca == "" {
		return nil, nil //nolint:nilnil // the system's roots
	}
	return clienttls.Load(clienttls.Files{CA: ca, System: true})
}

// renewFor bounds how long a command waits for a new token.
const renewFor = 20 * time.Second

// signedIn is the bearer token of the login at a control plane, renewed if it has to be. Errors: signin.ErrNone.
func signedIn(ctx context.Context, url string) (string, error) {
	store, err := signin.OpenStore()
	if err != nil {
		return "", fmt.Errorf("%w: %w", signin.ErrNone, err) // no home, no logins
	}
	login, err := store.Fresh(url, func(l signin.Login) (signin.Tokens, error) {
		ctx, cancel := context.WithTimeout(ctx, renewFor)
		defer cancel()
		secure, err := issuerTLS(l.CA)
		if err != nil {
			return l.Tokens, err
		}
		p, err := signin.Discover(ctx, l.Issuer, secure)
		if err != nil {
			return l.Tokens, err
		}
		defer p.Close()
		return p.Renew(ctx, l.Tokens)
	})
	if err != nil {
		if errors.Is(err, signin.ErrNone) {
			return "", err
		}
		return "", &statusError{exitRefused, "sign in again: tenant-ops login " + url, err}
	}
	return login.Bearer, nil
}

func logoutCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "logout [URL]",
		Short:   "Forget the tokens of a login",
		Long:    "Forget the tokens of a login. The issuer's own session in the browser goes on.",
		GroupID: "operate",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return errors.New("one URL only")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := signin.OpenStore()
			if err != nil {
				return err
			}
			url := os.Getenv(envURL)
			if len(args) > 0 {
				url = args[0]
			}
			if url == "" {
				if url, err = store.Current(); err != nil {
					return err
				}
			}
			url = strings.TrimRight(url, "/")
			if url == "" {
				return &statusError{exitNotFound, "give the control plane's URL", errors.New("nobody is signed in")}
			}
			if err := store.Delete(url); err != nil {
				return &statusError{exitNotFound, "give the control plane's URL as it was signed in to", err}
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "signed out of %s\n", url)
			return nil
		},
	}
}
